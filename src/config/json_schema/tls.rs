//! `tls:` of a source.

use super::{flag, object, text};
use serde_json::Value;

pub(super) fn definitions() -> Vec<Value> {
    vec![object(
        "source tls",
        &[
            ("ca_file", text("Authorities to trust besides the usual ones, PEM.")),
            ("cert_file", text("Our certificate, PEM.")),
            ("key_file", text("Its key, PEM.")),
            ("server_name", text("The name that the broker's certificate must bear.")),
            ("insecure_skip_verify", flag("Trust anybody.")),
        ],
    )]
}
