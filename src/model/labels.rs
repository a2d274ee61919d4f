//! Label sets: sorted by name, each name once, no empty values.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label. Texts are shared, so that a copy of a label set costs no copy of its texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    /// The name, any UTF-8 text that is not empty.
    pub name: Arc<str>,
    /// The value; an empty value means the label is absent.
    pub value: Arc<str>,
}

/// A label set, cheap to clone. A label with an empty value is the same as no label, as in Prometheus.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(Arc<[Label]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Labels {
    /// Builds from labels in any order; a later label of the same name replaces an earlier one, empty values are left out.
    pub fn new(mut labels: Vec<Label>) -> Self {
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels.reverse();
        labels.dedup_by(|a, b| a.name == b.name);
        labels.reverse();
        labels.retain(|label| !label.value.is_empty());
        Self(labels.into())
    }

    /// Builds from pairs of texts, in any order.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::new(pairs.into_iter().map(|(n, v)| Label { name: n.as_ref().into(), value: v.as_ref().into() }).collect())
    }

    /// The value of a label; `None` when absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|label| (*label.name).cmp(name)).ok().map(|at| &*self.0[at].value)
    }

    /// The metric's name, empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Label> + Clone {
        self.0.iter()
    }

    /// The labels in order of their names.
    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With one label set (or removed, when `value` is empty).
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut labels: Vec<Label> = self.0.iter().filter(|label| &*label.name != name).cloned().collect();
        labels.push(Label { name: name.into(), value: value.into() });
        Self::new(labels)
    }

    /// Only the labels for which `keep` says yes; the order stays.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|label| keep(&label.name)).cloned().collect())
    }

    /// With all labels of `other` set over these.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut labels = self.0.to_vec();
        labels.extend_from_slice(&other.0);
        // `Labels::new` sorts stably and keeps the later of two labels with one name.
        Self::new(labels)
    }

    /// FNV-1a over name, 0xff, value, 0xff: `LabelSet.Fingerprint` of prometheus/common, printed by Alertmanager as 16 hex digits.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut feed = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for label in self.0.iter() {
            feed(label.name.as_bytes());
            feed(&[0xff]);
            feed(label.value.as_bytes());
            feed(&[0xff]);
        }
        hash
    }
}

impl fmt::Display for Labels {
    /// `name{a="b"}` as Prometheus prints a series; texts quoted as Go quotes them where they need it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut rest = self.iter().filter(|label| &*label.name != METRIC_NAME).peekable();
        if rest.peek().is_none() && !self.metric_name().is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, label) in rest.enumerate() {
            write!(f, "{}{}={:?}", if at == 0 { "" } else { ", " }, label.name, &*label.value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.name, &*self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_alertmanagers() {
        let labels = Labels::from_pairs([("alertname", "Flip"), ("instance", "127.0.0.1:18055"), ("job", "f")]);
        assert_eq!(format!("{:016x}", labels.fingerprint()), "f0f29e50afc606a7");
    }

    #[test]
    fn a_later_label_wins_and_an_empty_one_is_none() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "1"), ("b", "2"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.with("a", "").to_string(), r#"{b="2"}"#);
    }
}
