//! What a receiver answered, and the one place that says which answers are worth another try.

use crate::model::Timestamp;
use crate::notify::outbox::Outcome;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};

/// How much of an answer a message shows, in characters.
const ANSWER_SHOWN: usize = 200;

/// May explain a refusal from its status and body.
pub(in crate::notify) type Hint = fn(StatusCode, &str) -> Option<&'static str>;

/// An answer to a request.
#[derive(Debug)]
pub(in crate::notify) struct Answer {
    pub(in crate::notify) status: StatusCode,
    pub(in crate::notify) headers: HeaderMap,
    /// Its beginning, secrets of the request replaced.
    pub(in crate::notify) body: String,
    /// What to do about a redirect.
    pub(in crate::notify) redirected: Option<String>,
}

impl Answer {
    /// Whether it says that it is JSON.
    pub(in crate::notify) fn is_json(&self) -> bool {
        self.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    }

    /// `answered 404 Not Found: no_service`.
    pub(in crate::notify) fn say(&self) -> String {
        let shown = self.body.chars().take(ANSWER_SHOWN).map(|c| if c.is_control() { ' ' } else { c });
        let shown: String = shown.collect();
        let mut text = format!("answered {}", self.status.as_u16());
        if let Some(reason) = self.status.canonical_reason() {
            text.push_str(&format!(" {reason}"));
        }
        if !shown.is_empty() {
            text.push_str(&format!(": {shown}"));
        }
        text
    }

    /// Delivered, worth another try, or final. A server's error, a timeout and a full queue pass; what the server says
    /// about the message itself does not.
    pub(in crate::notify) fn outcome(&self, now: Timestamp, hint: Hint) -> Outcome {
        let text = self.say();
        if self.status.is_success() {
            return Outcome::Delivered(text);
        }
        let passes = self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
            );
        self.failure(passes, text, hint, now)
    }

    /// A failure in words, with the hint that fits it.
    pub(in crate::notify) fn failure(&self, passes: bool, mut error: String, hint: Hint, now: Timestamp) -> Outcome {
        if let Some(hint) = self.redirected.as_deref().or_else(|| hint(self.status, &self.body)) {
            error.push_str(&format!(" ({hint})"));
        }
        if !passes {
            return Outcome::Final { error };
        }
        let asked = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Outcome::Retry { error, retry_after_ms: asked.then(|| self.retry_after_ms(now)).flatten() }
    }

    /// Retry-After of RFC 9110, section 10.2.3: seconds, or a date (then against the answer's own Date where it has one).
    pub(in crate::notify) fn retry_after_ms(&self, now: Timestamp) -> Option<i64> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<f64>() {
            return (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e3) as i64);
        }
        let date = |text: &str| {
            let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Some(Timestamp::from_micros(moment.as_microsecond()))
        };
        let from = self.headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(date).unwrap_or(now);
        Some(date(text)?.millis_since(from).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn check(status: u16, headers: &[(HeaderName, &str)], expected: Outcome) {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let answer =
            Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: String::new(), redirected: None };
        assert_eq!(answer.outcome(Timestamp::EPOCH, |_, _| None), expected);
    }

    #[test]
    fn answers_are_final_or_worth_another_try() {
        let retry = |error: &str, retry_after_ms| Outcome::Retry { error: error.into(), retry_after_ms };
        check(200, &[], Outcome::Delivered("answered 200 OK".into()));
        check(204, &[], Outcome::Delivered("answered 204 No Content".into()));
        check(404, &[], Outcome::Final { error: "answered 404 Not Found".into() });
        check(301, &[], Outcome::Final { error: "answered 301 Moved Permanently".into() });
        check(408, &[], retry("answered 408 Request Timeout", None));
        check(429, &[(RETRY_AFTER, "7")], retry("answered 429 Too Many Requests", Some(7_000)));
        check(503, &[(RETRY_AFTER, "0.5")], retry("answered 503 Service Unavailable", Some(500)));
        check(500, &[(RETRY_AFTER, "7")], retry("answered 500 Internal Server Error", None));
        let date = [(RETRY_AFTER, "Fri, 02 Jan 1970 00:00:30 GMT"), (DATE, "Fri, 02 Jan 1970 00:00:00 GMT")];
        check(503, &date, retry("answered 503 Service Unavailable", Some(30_000)));
    }
}
