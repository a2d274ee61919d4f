//! Every configuration that a reader may copy loads and builds, without a finding.

use crate::harness::binary;
use sidewatch::app::{build, lint};
use sidewatch::config::schema::{ExportKind, Transport};
use sidewatch::config::{Overrides, load_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn check(name: &str, text: &str) {
    let (config, mut found) = load_text(name, text, &BTreeMap::new(), &Overrides::default());
    let parts = config.as_ref().and_then(|config| build(config, &mut found));
    if let (Some(config), Some(parts)) = (&config, &parts) {
        lint(config, parts, &mut found);
    }
    assert!(parts.is_some() && found.to_string().is_empty(), "{name}:\n{found}");
    fits_the_schema(name, text);
}

/// What `sidewatch config schema` prints takes it as well, as an editor would ask it.
fn fits_the_schema(name: &str, text: &str) {
    let schema: serde_json::Value = serde_json::from_str(&sidewatch::config::json_schema()).unwrap();
    let value: serde_json::Value = serde_yaml::from_str(text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_with_every_key_builds_without_a_finding() {
    for file in ["deploy/sidewatch.yaml", "deploy/compose/sidewatch.yaml", "deploy/kubernetes/sidewatch.yaml"] {
        check(file, &std::fs::read_to_string(root().join(file)).unwrap());
    }
    check("demo.yaml", sidewatch::source::demo::CONFIG);
}

#[test]
fn numbers_that_are_words_and_zeros_fit_the_schema() {
    let more = "sources:
  a: {mqtt: {url: 'mqtt://h', topics: a, version: 5, qos: 0, scope: per_instance}}
  b: {mqtt: {url: 'mqtt://h', topics: a, version: 3.1.1, qos: 1, scope: per_instance}}
  c: {mqtt: {url: 'mqtt://h', topics: a, version: 4, scope: per_instance}}
  d: {amqp: {url: 'amqp://h', queue: q, scope: shared, max_deliveries: 0}}
  e: {scrape: {url: 'http://h/metrics', sample_limit: 0}}
  f: {redis: {url: 'redis://h', streams: s, scope: shared, claim_idle: 0}}
export: {l: {log: {match: a, per_second: 0, rotate: {keep: 0}}}}
state: /var/lib/sidewatch
";
    check("more.yaml", more);
}

/// What a configuration lets sidewatch hold, in bytes: the program itself, what its byte limits and queues allow, and what series take
/// besides their samples (names and labels; of histograms the window for quantiles as well).
fn most_bytes(file: &str) -> u64 {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let (config, mut found) = load_text(file, &text, &BTreeMap::new(), &Overrides::default());
    let config = config.unwrap();
    let conditions = build(&config, &mut found).unwrap().rule_set.events;
    let patterns: usize = conditions.iter().map(|condition| condition.key_bytes() * config.limits.pattern_keys).sum();
    let exports = config.export.iter().map(|export| match &export.value.kind {
        ExportKind::RemoteWrite(to) => to.queue_bytes,
        ExportKind::Otlp(to) => to.queue.bytes,
        ExportKind::Log(_) => 0,
    });
    let waiting: u64 = exports.chain(config.publish.iter().map(|publisher| publisher.value.queue.bytes)).sum();
    let scrapes = config.sources.iter().flatten().filter_map(|source| match &source.value.transport {
        Transport::Scrape(scrape) => Some(scrape.body_size_limit),
        _ => None,
    });
    let scraped = scrapes.max().unwrap_or(0);
    let limits = config.limits;
    let program = 16 << 20;
    // Two large queries at a time; a sample of one takes 24 bytes.
    let queries = 2 * limits.query_samples * 24;
    // Two bodies at a time: one that is read, one that is decoded.
    let bytes = limits.series_bytes + limits.queue_bytes + limits.quarantine_bytes + 2 * limits.body_bytes;
    let series = limits.series * 1_024 + limits.histogram_series * (20 << 10);
    (program + bytes + limits.event_bytes + series + patterns + queries + scraped) as u64 + waiting
}

#[test]
fn the_limits_of_the_examples_fit_into_their_memory() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let bytes = |text: &str| {
        let digits: u64 = text.trim_end_matches(|c: char| c.is_alphabetic()).parse().unwrap();
        assert!(matches!(text.trim_start_matches(|c: char| c.is_ascii_digit()), "Mi" | "m" | "M"), "{text}");
        digits << 20
    };
    let deployment: serde_yaml::Value = serde_yaml::from_str(&read("deploy/kubernetes/deployment.yaml")).unwrap();
    let sidecar = &deployment["spec"]["template"]["spec"]["initContainers"][0];
    let compose: serde_yaml::Value = serde_yaml::from_str(&read("deploy/compose.yaml")).unwrap();
    let unit = read("deploy/sidewatch.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")).unwrap();
    for (file, memory) in [
        ("deploy/kubernetes/sidewatch.yaml", sidecar["resources"]["limits"]["memory"].as_str().unwrap()),
        ("deploy/compose/sidewatch.yaml", compose["services"]["sidewatch"]["mem_limit"].as_str().unwrap()),
        ("deploy/sidewatch.yaml", unit),
    ] {
        let most = most_bytes(file);
        assert!(most <= bytes(memory), "{file}: {} MiB of {memory}", most >> 20);
    }
    // The probes and the published port come from outside of the container.
    for file in ["deploy/kubernetes/sidewatch.yaml", "deploy/compose/sidewatch.yaml"] {
        let (config, _) = load_text(file, &read(file), &BTreeMap::new(), &Overrides::default());
        assert_eq!(config.unwrap().listen.observe.value, "0.0.0.0:9180", "{file}");
    }
}

#[test]
fn the_rule_packs_have_no_finding_when_they_are_files_of_the_user() {
    let rules = root().join("rules");
    let packs = ["event-stream.yaml", "sidewatch.yaml"].map(|name| rules.join(name).display().to_string());
    check("packs.yaml", &format!("bundled_rules: false\nrules: {packs:?}\n"));
}

#[test]
fn the_readmes_example_builds_without_a_finding() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        check("README.yaml", block);
    }
}

fn yaml_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            yaml_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            into.push(path);
        }
    }
}

/// Our tree in the words of another reader.
fn tree(node: &sidewatch::config::yaml::Node) -> serde_yaml::Value {
    use sidewatch::config::yaml::Kind;
    match &node.kind {
        Kind::Map(entries) => {
            serde_yaml::Value::Mapping(entries.iter().map(|(key, value)| (tree(key), tree(value))).collect())
        }
        Kind::Seq(items) => serde_yaml::Value::Sequence(items.iter().map(tree).collect()),
        Kind::Scalar { .. } if node.is_null() => serde_yaml::Value::Null,
        Kind::Scalar { text, plain: true } => serde_yaml::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Kind::Scalar { text, plain: false } => serde_yaml::Value::String(text.clone()),
    }
}

#[test]
fn every_yaml_file_of_the_repository_reads_alike_in_another_reader() {
    let mut files = Vec::new();
    yaml_files(root(), &mut files);
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut found = sidewatch::config::Diagnostics::new();
        let ours = sidewatch::config::yaml::parse("file", &text, &mut found);
        let documents = serde_yaml::Deserializer::from_str(&text);
        use serde::Deserialize;
        let theirs = documents.into_iter().next().map(|document| serde_yaml::Value::deserialize(document).unwrap());
        let ours = ours.as_ref().map(tree).unwrap_or_else(|| panic!("{}: {found}", file.display()));
        assert_eq!(Some(ours), theirs, "{}", file.display());
    }
}

/// The words of a JSON array of strings, which is how Docker and Kubernetes spell a command.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list.trim()).unwrap()
}

#[test]
fn every_command_line_that_a_reader_may_copy_is_understood() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let mut commands: Vec<(&str, Vec<String>)> = Vec::new();
    for (file, before) in [
        ("deploy/Dockerfile", "CMD "),
        ("deploy/compose.yaml", "    command: ["),
        ("deploy/kubernetes/deployment.yaml", "          args: ["),
    ] {
        let text = read(file);
        let line = text.lines().find(|line| line.starts_with(before)).unwrap_or_else(|| panic!("{file}"));
        commands.push((file, words(&line[line.find('[').unwrap()..])));
    }
    let unit = read("deploy/sidewatch.service");
    let readme = read("README.md");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once("=/usr/local/bin/sidewatch "));
    let shell = blocks.flat_map(str::lines).filter_map(|line| Some(("README.md", line.strip_prefix("sidewatch ")?)));
    for (file, line) in lines.map(|(_, line)| ("deploy/sidewatch.service", line)).chain(shell) {
        let line = line.split(" #").next().unwrap();
        // Enough of the shell's quoting for these files: a quoted part is one word.
        let mut parts = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            if at % 2 == 1 {
                parts.push(part.to_owned());
            } else {
                parts.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        commands.push((file, parts));
    }
    assert!(commands.len() >= 8, "{commands:?}");
    for (file, arguments) in commands {
        // Everything before --help is read first: an unknown option or command fails.
        let output = Command::new(binary()).args(&arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{file}: {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
