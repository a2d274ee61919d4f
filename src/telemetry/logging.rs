//! Logs on standard error: for people on a terminal, one JSON object a line for anything else.
//!
//! The names of JSON's fields are an interface: `timestamp` (RFC 3339), `level`, `target`, `message`, and the event's own
//! fields beside them.

use super::clock;
use std::any::Any;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// The variable that sets the level: `debug`, or `info,sidewatch::source=debug`.
pub const LEVEL_VARIABLE: &str = "SIDEWATCH_LOG";

/// Libraries that log each attempt to connect.
const QUIET: [&str; 1] = ["async_nats"];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// [`LogFormat::Human`] when standard error is a terminal, else [`LogFormat::Json`].
    #[default]
    Auto,
    /// Time, level, message, fields; coloured on a terminal unless `NO_COLOR` is set.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to log and how.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// A level or a filter; `None` takes `SIDEWATCH_LOG`, else `info`.
    pub level: Option<String>,
    /// The look.
    pub format: LogFormat,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "not a log level: {text:?} ({message}); write error, warn, info, debug or trace, or info,sidewatch::source=debug"
    )]
    Level {
        /// As it was written.
        text: String,
        /// What the parser said.
        message: String,
    },
    /// A program that embeds the library has set up its own.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sets up logging for the whole process, panics included.
///
/// # Errors
/// [`LogError`] for a level that does not parse, or when the process already logs.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let filter = filter(options.level.as_deref(), std::env::var(LEVEL_VARIABLE).ok().as_deref())?;
    let terminal = std::io::stderr().is_terminal();
    let human = match options.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if human {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colour).with_target(false).with_timer(TimeOfDay).compact().try_init()
    } else {
        builder.json().with_timer(Rfc3339).flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    set.map_err(|_| LogError::AlreadySet)?;
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = panic_message(info.payload());
        tracing::error!(panic = message, place, "a bug in sidewatch: please report it with this line");
    }));
    Ok(())
}

/// The text of a panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}

/// The flag wins over the environment; an empty text counts as absent.
fn filter(flag: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, LogError> {
    let text = [flag, variable].into_iter().flatten().find(|text| !text.trim().is_empty()).unwrap_or("info");
    // Client libraries tell in lines of their own what sources say once, and better; whoever names them hears them.
    let quiet: String =
        QUIET.iter().filter(|library| !text.contains(**library)).map(|library| format!("{library}=off,")).collect();
    EnvFilter::builder()
        .parse(format!("{quiet}{text}"))
        .map_err(|error| LogError::Level { text: text.to_owned(), message: error.to_string() })
}

/// Wall-clock time of the place where it runs, to the millisecond.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(clock::now().micros()) {
            Ok(moment) => {
                let local = moment.to_zoned(jiff::tz::TimeZone::system());
                write!(writer, "{}", local.strftime("%H:%M:%S%.3f"))
            }
            Err(_) => writer.write_str("--:--:--.---"),
        }
    }
}

struct Rfc3339;

impl FormatTime for Rfc3339 {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", clock::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_flag_wins_and_a_wrong_level_is_told() {
        let check = |flag, variable, expected: &str| assert_eq!(filter(flag, variable).unwrap().to_string(), expected);
        check(None, None, "async_nats=off,info");
        check(None, Some("debug"), "async_nats=off,debug");
        check(Some("warn,async_nats=trace"), Some("debug"), "async_nats=trace,warn");
        check(Some(" "), Some(""), "async_nats=off,info");
        let error = filter(Some("info,sidewatch=loud"), None).unwrap_err().to_string();
        assert!(error.contains("not a log level: \"info,sidewatch=loud\""), "{error}");
    }

    #[test]
    fn json_lines_have_the_promised_names() {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(captured.clone())
            .json()
            .with_timer(Rfc3339)
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(source = "orders", behind = 3, "catching up"));
        let line: serde_json::Value = serde_json::from_slice(&captured.0.lock().unwrap()).unwrap();
        let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["timestamp", "level", "message", "source", "behind", "target"]);
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"catching up".into()));
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}
