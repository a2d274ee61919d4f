//! The keys of a `statsd` source.

use super::{bytes, flag, object, one_of, one_or_list, text};
use serde_json::Value;

pub(super) fn definitions() -> Vec<Value> {
    vec![object(
        "statsd source",
        &[
            ("udp", text("HOST:PORT for datagrams; 127.0.0.1:8125 when no listener is named.")),
            ("unixgram", text("The path of a unix socket for datagrams.")),
            ("tcp", text("HOST:PORT for connections that send lines.")),
            ("mapping", text("A mapping file in statsd_exporter's format.")),
            ("receive_buffer", bytes("Bytes that the kernel is asked to hold for a socket (4MiB).")),
            ("service_checks", flag("Whether DogStatsD service checks show in /health (true).")),
            (
                "tags",
                one_or_list(
                    &one_of(&["dogstatsd", "librato", "influxdb", "signalfx"], ""),
                    "The styles of tags that are read; all of them without this key.",
                ),
            ),
        ],
    )]
}
