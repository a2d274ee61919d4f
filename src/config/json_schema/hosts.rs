//! The keys of a `hosts` source.

use super::{object, one_or_list, text, time};
use serde_json::Value;

pub(super) fn definitions() -> Vec<Value> {
    vec![object(
        "hosts source",
        &[
            ("paths", one_or_list(&text(""), "Files in the form of hosts(5) and folders of them (/etc/hosts).")),
            ("poll", time("They are looked at so often even without a notice of the system (5s).")),
        ],
    )]
}
