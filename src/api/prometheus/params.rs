//! Parameters of Prometheus's HTTP API: from the query string, and for POST from a form; times, durations and limits as
//! `web/api/v1/api.go` reads them.

use super::{ErrorKind, PromError};
use crate::model::parse_duration_ms;
use axum::extract::{FromRequest, Request};
use http::{Method, header};

/// The largest form that is read, in bytes. Grafana posts long expressions.
pub const FORM_BYTES: usize = 1 << 20;

/// The parameters of a request, in order. A form's come before the query string's, as in Go's `Request.Form`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `a=1&b=2`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of a parameter; `None` when absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter is named at all (`?verbose`).
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A moment in milliseconds: RFC 3339 or seconds since the epoch.
    ///
    /// # Errors
    /// `bad_data` that names the parameter.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, PromError> {
        self.get(name).map(|text| parse_time_ms(text).map_err(|error| invalid(name, &error))).transpose()
    }

    /// The same for a parameter that must be there.
    ///
    /// # Errors
    /// `bad_data` when it is absent or no moment.
    pub fn required_time_ms(&self, name: &str) -> Result<i64, PromError> {
        parse_time_ms(self.get(name).unwrap_or("")).map_err(|error| invalid(name, &error))
    }

    /// A duration in milliseconds: seconds as a float, or Prometheus's form.
    ///
    /// # Errors
    /// `bad_data` that names the parameter.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, PromError> {
        self.get(name).map(|text| parse_duration(text).map_err(|error| invalid(name, &error))).transpose()
    }

    /// `limit`: 0 or absent means no limit.
    ///
    /// # Errors
    /// `bad_data` for anything that is no natural number.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, PromError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(limit) if limit >= 0 => Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0)),
            Ok(_) => Err(invalid(name, "limit must be non-negative")),
            Err(_) => Err(invalid(name, &format!("cannot parse {text:?} to a number"))),
        }
    }
}

/// `invalid parameter "NAME": ...`.
pub fn invalid(name: &str, error: &str) -> PromError {
    PromError::new(ErrorKind::BadData, format!("invalid parameter {name:?}: {error}"))
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = PromError;

    async fn from_request(request: Request, _: &S) -> Result<Self, PromError> {
        let mut params = Self::parse(request.uri().query().unwrap_or(""));
        let is_form =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
            });
        if request.method() == Method::POST && is_form {
            let body = axum::body::to_bytes(request.into_body(), FORM_BYTES).await.map_err(|_| {
                PromError::new(
                    ErrorKind::BadData,
                    format!("the form could not be read, or is larger than {FORM_BYTES} bytes"),
                )
            })?;
            let mut form = Self::parse(&String::from_utf8_lossy(&body));
            form.0.append(&mut params.0);
            params = form;
        }
        Ok(params)
    }
}

/// Percent-decoding of `application/x-www-form-urlencoded`; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut at = 0;
    while at < bytes.len() {
        let escape = match bytes[at] {
            b'%' => bytes.get(at + 1).copied().and_then(hex).zip(bytes.get(at + 2).copied().and_then(hex)),
            _ => None,
        };
        match (bytes[at], escape) {
            (_, Some((high, low))) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The moments that Prometheus uses for "no bound" (`minTimeFormatted`, `maxTimeFormatted`).
const ENDS_OF_TIME: [(&str, i64); 2] =
    [("-292273086-05-16T16:47:06Z", i64::MIN / 1_000), ("292277025-08-18T07:12:54.999999999Z", i64::MAX / 1_000)];

/// `parseTime` of Prometheus.
///
/// # Errors
/// Prometheus's sentence.
pub fn parse_time_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok((seconds * 1e3).round() as i64);
    }
    if let Some((_, ms)) = ENDS_OF_TIME.iter().find(|(known, _)| *known == text) {
        return Ok(*ms);
    }
    // Go's RFC 3339 wants the T and a zone; jiff is more liberal.
    let well_formed = text.as_bytes().get(10).is_some_and(|byte| matches!(byte, b'T' | b't'));
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) if well_formed => Ok(moment.as_millisecond()),
        _ => Err(format!("cannot parse {text:?} to a valid timestamp")),
    }
}

/// `parseDuration` of Prometheus: milliseconds.
///
/// # Errors
/// Prometheus's sentence.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1e3;
        if !ms.is_finite() || ms.abs() > (i64::MAX / 1_000_000) as f64 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(ms.round() as i64);
    }
    parse_duration_ms(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_repeated_parameters_kept() {
        let params = Params::parse("query=sum%28a%29+%2b+1&match%5B%5D=a&match[]=b%2&empty=&verbose&x=%C3%BC&bad=%zz%");
        assert_eq!(params.get("query"), Some("sum(a) + 1"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b%2"]);
        assert_eq!((params.get("empty"), params.has("verbose"), params.get("x")), (None, true, Some("ü")));
        assert_eq!(params.get("bad"), Some("%zz%"));
    }

    #[test]
    fn times_and_durations_read_as_prometheus_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1.5", Some(1_500)),
            ("1435781451.7814", Some(1_435_781_451_781)),
            ("-1", Some(-1_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.781+02:00", Some(1_435_774_251_781)),
            ("2015-07-01 20:10:51Z", None),
            ("2015-07-01", None),
            ("NaN", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_time_ms(text).ok(), expected, "{text}");
        }
        assert!(parse_time_ms("292277025-08-18T07:12:54.999999999Z").is_ok());
        for (text, expected) in [
            ("1", Some(1_000)),
            ("0.25", Some(250)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("x", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
        let message = Params::parse("time=foo").time_ms("time").unwrap_err().message;
        assert_eq!(message, "invalid parameter \"time\": cannot parse \"foo\" to a valid timestamp");
        assert_eq!(Params::parse("limit=0").limit("limit").unwrap(), None);
        assert_eq!(Params::parse("limit=3").limit("limit").unwrap(), Some(3));
        assert!(Params::parse("limit=-1").limit("limit").is_err() && Params::parse("limit=x").limit("limit").is_err());
    }
}
