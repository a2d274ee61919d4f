//! Reading requests as Alertmanager's generated reader does: what is missing is 422 with a code, what is no JSON is 400.

use super::AmError;
use crate::api::Shared;
use crate::model::{Labels, Timestamp};
use axum::extract::Request;
use http::{StatusCode, header};
use serde_json::{Map, Value};

/// go-openapi's codes (errors/schema.go).
const INVALID_TYPE: u16 = 601;
const REQUIRED: u16 = 602;
const TOO_FEW_ITEMS: u16 = 612;
/// Go's zero time, 0001-01-01T00:00:00Z, in microseconds: a moment that was not given.
const ZERO_TIME_MICROS: i64 = -62_135_596_800_000_000;

/// The body of a request as JSON; `None` when there is none.
pub(super) async fn read(backend: &Shared, request: Request, what: &str) -> Result<Value, AmError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("application/json").trim();
    let limit_bytes = backend.limits().body_bytes;
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = format!("unsupported media type {media_type:?}, only [application/json] are allowed");
        return Err(AmError::Coded(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, message));
    }
    let bytes = axum::body::to_bytes(request.into_body(), limit_bytes)
        .await
        .map_err(|_| AmError::Own(crate::api::ApiError::too_large(limit_bytes)))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(AmError::invalid(REQUIRED, format!("{what} in body is required")));
    }
    serde_json::from_slice(&bytes).map_err(|error| unreadable(what, &error.to_string()))
}

/// 400: the JSON is none, or of another shape.
pub(super) fn unreadable(what: &str, reason: &str) -> AmError {
    let message = format!("parsing {what} body from \"\" failed, because {reason}");
    AmError::Coded(StatusCode::BAD_REQUEST, 400, message)
}

/// One object of a body, and where it stands in it (`0.`, or nothing for the whole).
pub(super) struct Fields<'a> {
    what: &'static str,
    place: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(what: &'static str, place: String, value: &'a Value) -> Result<Self, AmError> {
        let fields = value.as_object().ok_or_else(|| unreadable(what, &format!("{place}expected an object")))?;
        Ok(Self { what, place, fields })
    }

    fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn required(&self, name: &str) -> Result<&'a Value, AmError> {
        let missing = || AmError::invalid(REQUIRED, format!("{}{name} in body is required", self.place));
        self.field(name).ok_or_else(missing)
    }

    fn of_type(&self, name: &str, expected: &str, value: &Value) -> AmError {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        unreadable(self.what, &format!("{}{name} is a {kind}, expected {expected}", self.place))
    }

    /// A text; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> Result<String, AmError> {
        let Some(value) = self.field(name) else { return Ok(String::new()) };
        value.as_str().map(str::to_owned).ok_or_else(|| self.of_type(name, "a string", value))
    }

    /// A text that must be there; it may be empty.
    pub(super) fn required_text(&self, name: &str) -> Result<String, AmError> {
        self.required(name)?;
        self.text(name)
    }

    /// A boolean that may be absent.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, AmError> {
        let Some(value) = self.field(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.of_type(name, "a bool", value))
    }

    /// A boolean that must be there.
    pub(super) fn required_boolean(&self, name: &str) -> Result<bool, AmError> {
        self.required(name)?;
        Ok(self.boolean(name)?.unwrap_or_default())
    }

    /// A moment; `None` when it is absent, empty or Go's zero time.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, AmError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        let zoned = text.parse::<jiff::Timestamp>().ok();
        let civil = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let moment = zoned.or_else(|| civil().map(|zoned| zoned.timestamp()));
        let wrong = || {
            let place = &self.place;
            unreadable(
                self.what,
                &format!("{place}{name}: parsing time {text:?}: it is not of the form 2006-01-02T15:04:05Z"),
            )
        };
        let micros = moment.ok_or_else(wrong)?.as_microsecond();
        Ok((micros != ZERO_TIME_MICROS).then(|| Timestamp::from_micros(micros)))
    }

    /// A moment that must be there.
    pub(super) fn required_moment(&self, name: &str) -> Result<Timestamp, AmError> {
        self.required(name)?;
        Ok(self.moment(name)?.unwrap_or(Timestamp::from_micros(ZERO_TIME_MICROS)))
    }

    /// A list with at least one item.
    pub(super) fn required_list(&self, name: &str) -> Result<&'a [Value], AmError> {
        let value = self.required(name)?;
        let list = value.as_array().ok_or_else(|| self.of_type(name, "an array", value))?;
        if list.is_empty() {
            let message = format!("{}{name} in body should have at least 1 items", self.place);
            return Err(AmError::invalid(TOO_FEW_ITEMS, message));
        }
        Ok(list)
    }

    /// Labels, a mapping of texts; none when it is absent.
    pub(super) fn labels(&self, name: &str) -> Result<Labels, AmError> {
        let Some(value) = self.field(name) else { return Ok(Labels::default()) };
        let map = value.as_object().ok_or_else(|| self.of_type(name, "an object", value))?;
        let mut pairs = Vec::with_capacity(map.len());
        for (label, value) in map {
            let text = value.as_str().ok_or_else(|| self.of_type(&format!("{name}.{label}"), "a string", value))?;
            pairs.push((label.as_str(), text));
        }
        Ok(Labels::from_pairs(pairs))
    }

    /// Labels that must be there; they may be none.
    pub(super) fn required_labels(&self, name: &str) -> Result<Labels, AmError> {
        self.required(name)?;
        self.labels(name)
    }

    /// An address or a path (RFC 3986); empty when it is absent.
    pub(super) fn uri(&self, name: &str) -> Result<String, AmError> {
        let text = self.text(name)?;
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let has_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let is_uri = (text.starts_with('/') || has_scheme) && !text.chars().any(|c| c.is_control() || c == ' ');
        if text.is_empty() || is_uri {
            return Ok(text);
        }
        Err(AmError::invalid(INVALID_TYPE, format!("{}{name} in body must be of type uri: {text:?}", self.place)))
    }
}

/// Whether a text is a UUID, as a path must name it.
pub(super) fn uuid(text: &str) -> Result<&str, AmError> {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let parts = text.split('-').map(str::len);
    if digits == 32 && text.len() == 36 && parts.eq([8, 4, 4, 4, 12]) {
        return Ok(text);
    }
    Err(AmError::invalid(INVALID_TYPE, format!("silenceID in path must be of type uuid: {text:?}")))
}
