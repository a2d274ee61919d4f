//! Reading a schema and what it refers to, with places for what is wrong.

use crate::config::schema::{SchemaConfig, SchemaSource};
use crate::config::yaml::{self, Kind, Node};
use crate::config::{Diagnostics, Span};
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::{Map, Number, Value};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a schema's file.
const FILE_BYTES: u64 = 4 << 20;
/// Steps back of one pattern: a hostile text must not hold a thread.
const BACKTRACK_STEPS: usize = 100_000;

/// A schema that was read.
pub(super) struct Read {
    pub schema: Value,
    pub validator: Validator,
    pub files: Vec<PathBuf>,
}

/// Reads and compiles.
pub(super) fn schema(config: &SchemaConfig, base_dir: &Path, found: &mut Diagnostics) -> Option<Read> {
    let (tree, span, base) = match &config.schema {
        SchemaSource::Inline(node) => (node.clone(), node.span.clone(), base_dir.join("sidewatch.yaml")),
        SchemaSource::File(file) => {
            let path = base_dir.join(&file.value);
            let text = match text(&path) {
                Ok(text) => text,
                Err(error) => {
                    found.error(&file.span, format!("the schema {} cannot be read: {error}", file.value));
                    return None;
                }
            };
            (yaml::parse(&path.display().to_string(), &text, found)?, file.span.clone(), path)
        }
    };
    let schema = value(&tree);
    let base = std::path::absolute(&base).unwrap_or(base);
    let files = Arc::new(Mutex::new(match config.schema {
        SchemaSource::File(_) => vec![base.clone()],
        SchemaSource::Inline(_) => Vec::new(),
    }));
    let draft = Draft::default().detect(&schema);
    let options = jsonschema::options()
        .with_base_uri(file_uri(&base))
        .with_retriever(Files { read: files.clone(), id: folder(&schema), beside: base.clone() })
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_STEPS));
    let mut unknown = Vec::new();
    formats(&tree, &mut |format| {
        if !options.is_known_format(draft, format.as_str().unwrap_or_default()) {
            unknown.push(format.clone());
        }
    });
    for format in unknown {
        let message = format!(
            "the format {:?} is not one of JSON Schema's: it is not checked",
            format.as_str().unwrap_or_default()
        );
        found.warning(&format.span, message);
    }
    match options.build(&schema) {
        Ok(validator) => {
            let files = files.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Some(Read { schema, validator, files })
        }
        Err(error) => {
            let pointer = error.instance_path().to_string();
            let place = at(&tree, &pointer).filter(|span| span.line > 0).unwrap_or(span);
            let shown = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
            found.error(&place, format!("not a valid JSON Schema{shown}: {error}"));
            None
        }
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has {size} bytes, a schema may have {FILE_BYTES}")));
    }
    std::fs::read_to_string(path)
}

/// The tree as JSON: YAML's core schema, of which JSON is a part.
fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Map(entries) => {
            let entry = |(key, item): &(Node, Node)| {
                let Kind::Scalar { text, .. } = &key.kind else { return (String::new(), value(item)) };
                (text.clone(), value(item))
            };
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Kind::Seq(items) => Value::Array(items.iter().map(value).collect()),
        Kind::Scalar { text, plain: false } => Value::String(text.clone()),
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            word => word
                .parse::<i64>()
                .map(Number::from)
                .ok()
                .or_else(|| serde_json::from_str::<Number>(word).ok())
                .map_or_else(|| Value::String(word.to_owned()), Value::Number),
        },
    }
}

/// The place of a JSON pointer in the tree.
fn at(tree: &Node, pointer: &str) -> Option<Span> {
    let mut node = tree;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        node = match &node.kind {
            Kind::Seq(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => node.get(&step)?,
        };
    }
    Some(node.span.clone())
}

/// Every `format` of a schema. What stands below `properties` is a name, not a keyword.
fn formats(node: &Node, see: &mut impl FnMut(&Node)) {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, item) in entries {
                match key.as_str() {
                    Some("format") if item.as_str().is_some() => see(item),
                    Some("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas") => {
                        item.as_map().into_iter().flatten().for_each(|(_, item)| formats(item, see));
                    }
                    Some("enum" | "const" | "default" | "examples") => {}
                    _ => formats(item, see),
                }
            }
        }
        Kind::Seq(items) => items.iter().for_each(|item| formats(item, see)),
        Kind::Scalar { .. } => {}
    }
}

/// The URI of a file (RFC 8089), what is not plain percent-encoded.
fn file_uri(path: &Path) -> String {
    let mut uri = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn path_of(uri: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = uri.strip_prefix("file://")?.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The folder of a schema's `$id`, with the last slash.
fn folder(schema: &Value) -> Option<String> {
    let id = schema.get("$id").and_then(Value::as_str)?;
    let end = id.rfind('/').filter(|_| id.contains("://"))?;
    Some(id[..=end].to_owned())
}

/// Reads what `$ref` names: files only. What stands beside the schema's `$id` stands beside its file.
struct Files {
    read: Arc<Mutex<Vec<PathBuf>>>,
    id: Option<String>,
    beside: PathBuf,
}

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let beside = self.id.as_deref().and_then(|id| uri.as_str().strip_prefix(id));
        let local = beside.map(|name| self.beside.with_file_name(name));
        let Some(path) = local.or_else(|| path_of(uri.as_str())) else {
            return Err(
                format!("{uri} is not fetched: $ref may name files beside the schema, never the network").into()
            );
        };
        let text = text(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let mut found = Diagnostics::new();
        let tree = yaml::parse(&path.display().to_string(), &text, &mut found);
        let Some(tree) = tree.filter(|_| !found.has_errors()) else { return Err(found.to_string().into()) };
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        Ok(value(&tree))
    }
}
