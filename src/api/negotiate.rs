//! Content negotiation: RFC 9110, section 12.5.1 (`Accept`).

/// A representation that a handler can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `type/subtype`, lower case.
    pub media_type: &'static str,
    /// The parameters that make it this one, for example `("version", "1.0.0")`.
    pub parameters: &'static [(&'static str, &'static str)],
}

/// Parameters of the request that never exclude an offer: how a text is encoded, not which one it is.
const NEUTRAL: [&str; 3] = ["q", "charset", "escaping"];

#[derive(Debug)]
struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let (mut parameters, mut quality) = (Vec::new(), 1.0);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                // A weight that is not a number refuses the range rather than prefer it.
                quality = value.parse().unwrap_or(0.0_f32).clamp(0.0, 1.0);
            }
            parameters.push((name, value));
        }
        Self { media_type, parameters, quality }
    }

    /// How specific the match is; `None` when the range does not take the offer.
    fn specificity(&self, offer: &Offer) -> Option<usize> {
        let base = if self.media_type.eq_ignore_ascii_case(offer.media_type) {
            2
        } else if self.media_type == "*/*" {
            0
        } else {
            let kind = self.media_type.strip_suffix("/*")?;
            let offered = offer.media_type.split('/').next().unwrap_or("");
            if !kind.eq_ignore_ascii_case(offered) {
                return None;
            }
            1
        };
        let asked = self
            .parameters
            .iter()
            .filter(|(name, _)| !NEUTRAL.iter().any(|neutral| name.eq_ignore_ascii_case(neutral)));
        let mut count = 0;
        for (name, value) in asked {
            if !offer.parameters.iter().any(|(known, same)| known.eq_ignore_ascii_case(name) && same == value) {
                return None;
            }
            count += 1;
        }
        Some(base * 16 + count)
    }
}

/// The index of the best offer: highest quality, then the order of the offers. Each offer's quality is that of the most
/// specific range that takes it. Without the header the first offer; `None` when none is acceptable.
pub fn best(accept: Option<&str>, offers: &[Offer]) -> Option<usize> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Some(0) };
    let ranges: Vec<Range<'_>> = accept.split(',').map(Range::parse).collect();
    let quality = |offer: &Offer| {
        let taking = ranges.iter().filter_map(|range| Some((range.specificity(offer)?, range.quality)));
        taking.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, quality)| quality)
    };
    let mut best: Option<(usize, f32)> = None;
    for (at, offer) in offers.iter().enumerate() {
        let quality = quality(offer);
        if quality > 0.0 && best.is_none_or(|(_, least)| quality > least) {
            best = Some((at, quality));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [Offer; 2] = [
        Offer { media_type: "text/plain", parameters: &[("version", "0.0.4")] },
        Offer { media_type: "application/openmetrics-text", parameters: &[("version", "1.0.0")] },
    ];

    #[test]
    fn the_highest_quality_wins_and_versions_count() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (None, Some(0)),
            (Some(""), Some(0)),
            (Some("*/*"), Some(0)),
            (Some("text/*"), Some(0)),
            (Some("application/*"), Some(1)),
            (Some(prometheus_3), Some(1)),
            (Some("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"), Some(1)),
            (Some("application/openmetrics-text;version=0.0.1"), None),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Some(0)),
            (Some("text/plain;q=0, */*"), Some(1)),
            (Some("application/openmetrics-text;q=0.3,text/plain;q=0.9"), Some(0)),
            (Some("image/png"), None),
            (Some("text/plain;q=x"), None),
        ] {
            assert_eq!(best(accept, &OFFERS), expected, "{accept:?}");
        }
    }
}
