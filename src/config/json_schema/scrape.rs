//! The keys of a `scrape` source.

use super::{bytes, flag, integer, object, one_of, one_or_list, reference, text, texts, time, whole};
use crate::config::schema::RelabelAction;
use serde_json::{Value, json};

/// What every request over HTTP may say.
pub(super) fn request() -> Vec<(&'static str, Value)> {
    vec![
        ("basic_auth", reference("basic_auth")),
        ("authorization", reference("authorization")),
        ("headers", texts("More headers of the request.")),
        ("tls_config", reference("scrape tls_config")),
        ("proxy_url", text("A proxy.")),
        ("follow_redirects", flag("Whether redirects are followed (true).")),
    ]
}

pub(super) fn definitions() -> Vec<Value> {
    let steps =
        |description: &str| json!({"type": "array", "items": reference("relabel step"), "description": description});
    let mut source = vec![
        ("url", text("The one target: http://HOST:PORT/metrics.")),
        ("targets", one_or_list(&text(""), "HOST:PORT or whole addresses.")),
        ("scheme", one_of(&["http", "https"], "Of targets without one.")),
        ("metrics_path", text("Of targets without one (/metrics).")),
        ("params", texts("Parameters of the request.")),
        ("interval", time("How often (15s); below a second too.")),
        ("timeout", time("How long a scrape may take (10s, at most the interval).")),
        ("job", text("The label job; the source's name without it.")),
        ("instance", text("The label instance of a single target; HOST:PORT without it.")),
        ("labels", texts("Labels of every series.")),
        ("honor_labels", flag("Whether scraped labels win over the target's.")),
        ("honor_timestamps", flag("Whether samples keep the times that the target gives (true).")),
        (
            "always_scrape_classic_histograms",
            flag("Whether histograms with native buckets are stored in the classic form as well (true)."),
        ),
        (
            "convert_classic_histograms_to_nhcb",
            flag("Whether classic histograms become native ones with custom bounds."),
        ),
        ("relabel_configs", steps("Relabelling of the targets.")),
        ("metric_relabel_configs", steps("Relabelling of each series.")),
        ("sample_limit", whole("Samples beyond which the scrape fails; 0 for none.")),
        ("body_size_limit", bytes("Bytes beyond which the scrape fails (64MiB).")),
        ("enable_compression", flag("Whether gzip is asked for; not on loopback without this key.")),
    ];
    source.extend(request());
    vec![
        object("scrape source", &source),
        object(
            "relabel step",
            &[
                ("action", one_of(&RelabelAction::ALL.map(|(name, _)| name), "What is done (replace).")),
                ("source_labels", one_or_list(&text(""), "Labels whose values are joined.")),
                ("separator", text("Between the joined values (;).")),
                ("regex", text("What they must match, anchored.")),
                ("target_label", text("The label that is set.")),
                ("replacement", text("Its value ($1).")),
                ("modulus", integer("Of hashmod.")),
            ],
        ),
        object(
            "basic_auth",
            &[
                ("username", text("The user.")),
                ("password", text("The password.")),
                ("password_file", text("A file that holds it.")),
            ],
        ),
        object(
            "authorization",
            &[
                ("type", text("The scheme (Bearer).")),
                ("credentials", text("The token.")),
                ("credentials_file", text("A file that holds it.")),
            ],
        ),
        object(
            "scrape tls_config",
            &[
                ("ca_file", text("Authorities to trust, PEM.")),
                ("cert_file", text("Our certificate, PEM.")),
                ("key_file", text("Its key, PEM.")),
                ("insecure_skip_verify", flag("Trust anybody.")),
            ],
        ),
    ]
}
