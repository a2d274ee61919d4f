//! Every configuration that a reader may copy loads and builds, without a finding.

use crate::harness::binary;
use sidewatch::app::{build, lint};
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
