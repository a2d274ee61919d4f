//! The rule packs that are part of the program: the files of the top-level folder `rules/`.

/// The name that built-in alerts have in place of a file.
pub const BUILT_IN: &str = "built-in";

/// Name and text of each pack; they are ordinary Prometheus rule files.
pub const PACKS: [(&str, &str); 2] = [
    ("rules/event-stream.yaml", include_str!("../../rules/event-stream.yaml")),
    ("rules/sidewatch.yaml", include_str!("../../rules/sidewatch.yaml")),
];
