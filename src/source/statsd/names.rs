//! Names and tags as StatsD clients write them, as Prometheus names and labels: what statsd_exporter makes of them.

use super::line::reason;
use crate::config::schema::TagStyles;
use std::borrow::Cow;

/// A name of Prometheus: every character that it does not take becomes `_`, and a `_` goes before a first digit.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    out
}

/// A name with its tags, in the order in which they stand; names are escaped.
#[derive(Debug, Default, PartialEq)]
pub struct Tagged {
    /// The name without tags, as written.
    pub name: String,
    /// Label and value.
    pub labels: Vec<(String, String)>,
    /// Tags that are none.
    pub malformed: u64,
}

/// Takes the tags off a name and reads those behind `#`.
///
/// # Errors
/// The reason when both are there, or when nothing is left of the name.
pub fn read(name: &[u8], tags: &[u8], styles: &TagStyles) -> Result<Tagged, &'static str> {
    let name = String::from_utf8_lossy(name);
    let mut out = Tagged::default();
    out.name = name_tags(&name, styles, &mut out);
    if !tags.is_empty() && styles.dogstatsd {
        if !out.labels.is_empty() {
            return Err(reason::MIXED_TAGS);
        }
        for tag in String::from_utf8_lossy(tags).split(',') {
            out.tag(tag.trim_start_matches('#'), ':');
        }
    }
    if out.name.is_empty() { Err(reason::NAME) } else { Ok(out) }
}

/// SignalFX `name[k=v,k=v]rest`, Librato `name#k=v,k=v`, InfluxDB `name,k=v,k=v`; the name that is left.
fn name_tags(name: &str, styles: &TagStyles, out: &mut Tagged) -> String {
    if styles.signalfx {
        match (name.find('['), name.find(']')) {
            (Some(open), Some(close)) if open < close => {
                out.tags(&name[open + 1..close]);
                return format!("{}{}", &name[..open], &name[close + 1..]);
            }
            (None, None) => {}
            _ => {
                out.malformed += 1;
                return name.to_owned();
            }
        }
    }
    match name.find(|c| c == '#' && styles.librato || c == ',' && styles.influxdb) {
        Some(at) => {
            out.tags(&name[at + 1..]);
            name[..at].to_owned()
        }
        None => name.to_owned(),
    }
}

impl Tagged {
    fn tags(&mut self, tags: &str) {
        tags.split(',').for_each(|tag| self.tag(tag, '='));
    }

    fn tag(&mut self, tag: &str, separator: char) {
        match tag.split_once(separator) {
            // Prometheus keeps names that begin with __ for itself.
            Some((name, value)) if !name.is_empty() && !value.is_empty() && !name.starts_with("__") => {
                let name = escape(name);
                match self.labels.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, held)) => value.clone_into(held),
                    None => self.labels.push((name, value.to_owned())),
                }
            }
            _ => self.malformed += 1,
        }
    }
}

/// A label that the kind of its metric has made its own gives way, as a scraped one does.
pub fn own_label(name: &str) -> Cow<'_, str> {
    if matches!(name, "le" | "quantile" | "sidewatch_overflow") {
        Cow::Owned(format!("exported_{name}"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, tags: &str, expected: &str) {
        let told = match read(name.as_bytes(), tags.as_bytes(), &TagStyles::default()) {
            Ok(Tagged { name, labels, malformed }) => {
                let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {{{}}}{}", escape(&name), labels.join(","), "!".repeat(malformed as usize))
            }
            Err(reason) => reason.to_owned(),
        };
        assert_eq!(told, expected, "{name} {tags}");
    }

    #[test]
    fn names_and_tags_become_prometheus_ones() {
        check("foo.bar-baz", "", "foo_bar_baz {}");
        check("1.two é", "", "_1_two__ {}");
        check("m", "tag1:bar,tag2:baz", "m {tag1=bar,tag2=baz}");
        check("m", "#tag1:bar,#tag2:b:z", "m {tag1=bar,tag2=b:z}");
        check("m", "a.b:1,9:x", "m {a_b=1,_9=x}");
        check("m", "production,:x,y:,", "m {}!!!!");
        check("m", "a:1,a:2", "m {a=2}");
        check("m", "__name__:x", "m {}!");
        check("foo#tag1=bar,tag2=baz", "", "foo {tag1=bar,tag2=baz}");
        check("foo,tag1=bar,tag2=baz", "", "foo {tag1=bar,tag2=baz}");
        check("foo.[tag1=bar,tag2=baz]test", "", "foo_test {tag1=bar,tag2=baz}");
        check("foo[tag1=bar", "", "foo_tag1_bar {}!");
        check("foo]x[a=b", "", "foo_x_a_b {}!");
        check("foo#a=b", "c:d", "mixed_tagging_styles");
        check("#a=b", "", "empty_name");
    }
}
