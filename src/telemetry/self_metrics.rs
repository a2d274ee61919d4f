//! sidewatch's own metrics: every name in one place.
//!
//! The functions return handles of the `metrics` facade. Getting one costs a lookup, using it an atomic operation:
//! whoever updates often keeps the handle. Handles taken before [`install`] do nothing.

use super::clock;
use metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The kinds of a metric, for its description.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! names {
    ($($constant:ident = $name:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        $(const $constant: &str = $name;)*
        const DESCRIPTIONS: &[(&str, Kind, Unit, &str)] = &[$(($name, Kind::$kind, Unit::$unit, $help),)*];
    };
}

names! {
    RESIDENT_MEMORY = "sidewatch_process_resident_memory_bytes", Gauge, Bytes, "Memory of this process that is resident.";
    CPU_SECONDS = "sidewatch_process_cpu_seconds_total", Gauge, Seconds, "Time of a processor that this process has used, user and system.";
    OPEN_FDS = "sidewatch_process_open_fds", Gauge, Count, "Open file descriptors of this process.";
    BUILD_INFO = "sidewatch_build_info", Gauge, Count, "1, with the version as a label.";
    START_TIME = "sidewatch_start_time_seconds", Gauge, Seconds, "When this process started, in seconds since the epoch.";
    QUEUE_BATCHES = "sidewatch_queue_batches", Gauge, Count, "Inputs that wait for the core.";
    QUEUE_BYTES = "sidewatch_queue_bytes", Gauge, Bytes, "Bytes of inputs that wait for the core.";
    QUEUE_CAPACITY_BATCHES = "sidewatch_queue_capacity_batches", Gauge, Count, "Inputs that may wait for the core.";
    QUEUE_CAPACITY_BYTES = "sidewatch_queue_capacity_bytes", Gauge, Bytes, "Bytes of inputs that may wait for the core.";
    QUEUE_EVENTS = "sidewatch_queue_events", Gauge, Count, "Events that wait for the core, by priority.";
    QUEUE_CAPACITY_EVENTS = "sidewatch_queue_capacity_events", Gauge, Count, "Events that may wait for the core.";
    QUEUE_DROPPED_EVENTS = "sidewatch_queue_dropped_events_total", Counter, Count, "Events that a full queue lost, by source, reason (drop_oldest, drop_newest) and priority.";
    RATE_LIMITED = "sidewatch_rate_limited_events_total", Counter, Count, "Events that met a rate limit, by source, limit (source, client) and outcome: refused, delayed or dropped.";
    QUEUE_FULL = "sidewatch_queue_full_total", Counter, Count, "Batches that a sender was told to send again later, because the queue was full.";
    SOURCE_UP = "sidewatch_source_up", Gauge, Count, "1 while the source is connected (or catching up), 0 while it is starting, lost or ended.";
    SOURCE_BEHIND = "sidewatch_source_behind", Gauge, Count, "How far the source is behind: bytes for files, messages for brokers.";
    SOURCE_PARTITION_LAG = "sidewatch_source_partition_lag", Gauge, Count, "Messages of a partition that are still to be read, by topic and partition.";
    SOURCE_RECEIVED_BYTES = "sidewatch_source_received_bytes_total", Counter, Bytes, "Bytes received from the source.";
    SOURCE_MESSAGES = "sidewatch_source_messages_total", Counter, Count, "Messages received from the source, redelivered ones included.";
    SOURCE_REDELIVERED = "sidewatch_source_redelivered_total", Counter, Count, "Messages that the broker said it had delivered before.";
    SOURCE_DUPLICATES = "sidewatch_source_duplicates_total", Counter, Count, "Messages that were counted before, and are not counted again.";
    SOURCE_ACKNOWLEDGED = "sidewatch_source_acknowledged_total", Counter, Count, "Messages that the broker was told are done with.";
    SOURCE_IGNORED = "sidewatch_source_ignored_total", Counter, Count, "Messages that the configuration says to ignore.";
    SOURCE_GAPS = "sidewatch_source_gaps_total", Counter, Count, "Times that messages may have been missed, by reason.";
    SOURCE_RESUMED = "sidewatch_source_resumed_total", Counter, Count, "Times that a source asked its server for what came behind the last event it had.";
    SOURCE_CONNECTED = "sidewatch_source_connected_total", Counter, Count, "Times that the source connected, the first one included.";
    SOURCE_CONNECTIONS = "sidewatch_source_connections", Gauge, Count, "Open connections of a listening source.";
    SOURCE_CONNECTIONS_REFUSED = "sidewatch_source_connections_refused_total", Counter, Count, "Connections that were closed at once, by reason.";
    SCRAPES_FAILED = "sidewatch_scrapes_failed_total", Counter, Count, "Scrapes that failed, by source and reason.";
    SOURCE_FILE_RESETS = "sidewatch_source_file_resets_total", Counter, Count, "Times that a followed file was rotated, truncated or could not be found again, by reason.";
    NOTIFICATIONS_SENT = "sidewatch_notifications_sent_total", Counter, Count, "Messages that a receiver has accepted.";
    NOTIFICATIONS_FAILED = "sidewatch_notifications_failed_total", Counter, Count, "Attempts to send a message that failed, by reason.";
    ALERTS_FIRING = "sidewatch_alerts_firing", Gauge, Count, "Alerts that fire.";
    SILENCES = "sidewatch_silences", Gauge, Count, "Silences, by state.";
    POSTED_ALERTS = "sidewatch_posted_alerts_total", Counter, Count, "Alerts that others posted, by what became of them: taken, or why not.";
    RULE_EVALUATIONS = "sidewatch_rule_evaluations_total", Counter, Count, "Evaluations of rules, by group and by what set them off.";
    RULE_EVALUATION_FAILURES = "sidewatch_rule_evaluation_failures_total", Counter, Count, "Evaluations of rules that failed, by group.";
    RULE_GROUP_INTERVAL_SECONDS = "sidewatch_rule_group_interval_seconds", Gauge, Seconds, "Interval of a rule group.";
    RULE_GROUP_LAG_SECONDS = "sidewatch_rule_group_lag_seconds", Gauge, Seconds, "How long after its slot the last evaluation of a rule group was begun.";
    RULE_GROUP_LAST_DURATION_SECONDS = "sidewatch_rule_group_last_duration_seconds", Gauge, Seconds, "How long the last evaluation of a rule group took.";
    RULE_GROUP_MISSED = "sidewatch_rule_group_missed_total", Counter, Count, "Slots at which a rule group was not evaluated.";
    EVENT_CONDITION_UNUSED = "sidewatch_event_condition_unused_total", Counter, Count, "Events and keys that a condition on events or an objective could not use as they came, by alert and reason.";
    CHECKPOINT_FAILURES = "sidewatch_checkpoint_failures_total", Counter, Count, "Checkpoints that could not be written.";
    CHECKPOINT_SECONDS = "sidewatch_checkpoint_seconds", Histogram, Seconds, "Time to write a checkpoint.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = "sidewatch_config_last_reload_successful", Gauge, Count, "1 when the last attempt to read the configuration succeeded, else 0.";
    CONFIG_RELOADS = "sidewatch_config_reloads_total", Counter, Count, "Attempts to reload the configuration, by result.";
    SERIES = "sidewatch_series", Gauge, Count, "Live series.";
    SERIES_LIMITED = "sidewatch_series_limited_total", Counter, Count, "Updates that met a limit on series, by metric.";
    SAMPLES_REFUSED = "sidewatch_samples_refused_total", Counter, Count, "Values and samples that the series store refused, by reason.";
    NOTIFICATION_LATENCY_SECONDS = "sidewatch_notification_latency_seconds", Histogram, Seconds, "Time from the decision to notify to the receiver's answer.";
    ALERT_TIME_TO_DETECT = "sidewatch_alert_time_to_detect_seconds", Histogram, Seconds, "Time from the moment the condition began to hold (of the event, for conditions on events) to the alert's firing, by rule.";
    ALERT_TIME_TO_NOTIFY = "sidewatch_alert_time_to_notify_seconds", Histogram, Seconds, "Time from an alert's firing to the delivery of the message that tells of it, by rule; the slowest alert of a message counts.";
    ALERT_TIME_TO_RESOLVE = "sidewatch_alert_time_to_resolve_seconds", Histogram, Seconds, "Time from an alert's firing to its end, by rule.";
    EVENT_LOG_DROPPED = "sidewatch_event_log_dropped_total", Counter, Count, "Lines for events that were not written, by reason: no room to wait, or the file failed.";
    REMOTE_WRITE_PENDING = "sidewatch_remote_write_pending_bytes", Gauge, Bytes, "Bytes of requests that wait for a remote-write receiver.";
    REMOTE_WRITE_SENT = "sidewatch_remote_write_sent_samples_total", Counter, Count, "Samples that a remote-write receiver has taken.";
    REMOTE_WRITE_FAILED = "sidewatch_remote_write_failed_requests_total", Counter, Count, "Attempts to send a remote-write request that failed and are repeated.";
    REMOTE_WRITE_DROPPED = "sidewatch_remote_write_dropped_samples_total", Counter, Count, "Samples that were given up, by reason: refused by the receiver, too old, unreadable, or no room in the queue.";
    REMOTE_WRITE_HIGHEST = "sidewatch_remote_write_highest_sent_timestamp_seconds", Gauge, Seconds, "The time of the newest sample that a remote-write receiver has taken.";
    WATCHDOG_PINGS = "sidewatch_watchdog_pings_total", Counter, Count, "Pings of the watchdog, by result: sent, failed, or withheld because rules were not evaluated in time.";
    DEAD_LETTERS = "sidewatch_notification_dead_letters_total", Counter, Count, "Messages given up: refused for good, not delivered for a day, or crowded out.";
    NOTIFICATIONS_PENDING = "sidewatch_notifications_pending", Gauge, Count, "Messages that wait for a receiver or are being sent.";
    NOTIFICATIONS_WITHHELD = "sidewatch_notifications_withheld_total", Counter, Count, "News that was not sent, by reason; for flapping each change counts.";
    HISTORY_LOST = "sidewatch_history_lost_total", Counter, Count, "Lines of the history that could not be kept, by reason.";
    LIFECYCLE_EVENTS = "sidewatch_lifecycle_events_total", Counter, Count, "Events of sidewatch's own life cycle, by type.";
    LIFECYCLE_SUPPRESSED = "sidewatch_lifecycle_suppressed_total", Counter, Count, "Events of the life cycle that were told and not put into the stream, because one of them caused them or there were too many.";
    PUBLISHED = "sidewatch_published_total", Counter, Count, "Events that a publisher's target has accepted.";
    PUBLISH_FAILED = "sidewatch_publish_failed_total", Counter, Count, "Attempts to publish that failed.";
    PUBLISH_DROPPED = "sidewatch_publish_dropped_total", Counter, Count, "Events that were not published, by reason.";
    PUBLISH_PENDING = "sidewatch_publish_pending", Gauge, Count, "Events that wait to be published.";
    OTLP_SENT = "sidewatch_otlp_sent_total", Counter, Count, "Data points and spans that the receiver has accepted, by signal.";
    OTLP_FAILED = "sidewatch_otlp_failed_total", Counter, Count, "Requests that failed and are tried again, by signal.";
    OTLP_DROPPED = "sidewatch_otlp_dropped_total", Counter, Count, "Data points and spans that were not sent, by signal and reason.";
    OTLP_PENDING = "sidewatch_otlp_pending", Gauge, Count, "Data points and spans that wait, by signal.";
    CORE_BATCH_SECONDS = "sidewatch_core_batch_seconds", Histogram, Seconds, "Time that the core takes for one batch.";
}

/// Counter of batches refused with "later" because the queue was full.
pub fn queue_full() -> Counter {
    metrics::counter!(QUEUE_FULL)
}

/// Gauge of waiting inputs.
pub fn queue_batches() -> Gauge {
    metrics::gauge!(QUEUE_BATCHES)
}

/// Gauge of waiting bytes.
pub fn queue_bytes() -> Gauge {
    metrics::gauge!(QUEUE_BYTES)
}

/// Gauge of the queue's capacity in inputs.
pub fn queue_capacity_batches() -> Gauge {
    metrics::gauge!(QUEUE_CAPACITY_BATCHES)
}

/// Gauge of the queue's capacity in bytes.
pub fn queue_capacity_bytes() -> Gauge {
    metrics::gauge!(QUEUE_CAPACITY_BYTES)
}

/// Gauge of waiting events of one priority.
pub fn queue_events(priority: &'static str) -> Gauge {
    metrics::gauge!(QUEUE_EVENTS, "priority" => priority)
}

/// Gauge of the queue's capacity in events.
pub fn queue_capacity_events() -> Gauge {
    metrics::gauge!(QUEUE_CAPACITY_EVENTS)
}

/// Counter of events that a full queue lost.
pub fn queue_dropped_events(source: &Arc<str>, reason: &'static str, priority: &'static str) -> Counter {
    metrics::counter!(QUEUE_DROPPED_EVENTS, "source" => Arc::clone(source), "reason" => reason, "priority" => priority)
}

/// Counter of events that met a rate limit.
pub fn rate_limited(source: &Arc<str>, limit: &'static str, outcome: &'static str) -> Counter {
    metrics::counter!(RATE_LIMITED, "source" => Arc::clone(source), "limit" => limit, "outcome" => outcome)
}

/// Gauge: 1 while the source is connected.
pub fn source_up(source: &Arc<str>) -> Gauge {
    metrics::gauge!(SOURCE_UP, "source" => Arc::clone(source))
}

/// Gauge: how far the source is behind.
pub fn source_behind(source: &Arc<str>) -> Gauge {
    metrics::gauge!(SOURCE_BEHIND, "source" => Arc::clone(source))
}

/// The source is not configured any more: what is said of its connection ends.
pub fn source_gone(source: &Arc<str>) {
    // The exporter forgets no series; NaN marks what is left out (see `SelfMetrics::render`).
    source_up(source).set(f64::NAN);
    source_behind(source).set(f64::NAN);
}

/// Gauge: messages of a partition that are still to be read.
pub fn source_partition_lag(source: &Arc<str>, topic: &Arc<str>, partition: i32) -> Gauge {
    metrics::gauge!(
        SOURCE_PARTITION_LAG, "source" => Arc::clone(source), "topic" => Arc::clone(topic),
        "partition" => partition.to_string()
    )
}

/// Counter of bytes received.
pub fn source_received_bytes(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_RECEIVED_BYTES, "source" => Arc::clone(source))
}

/// Counter of messages received.
pub fn source_messages(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_MESSAGES, "source" => Arc::clone(source))
}

/// Counter of messages that the broker calls redelivered.
pub fn source_redelivered(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_REDELIVERED, "source" => Arc::clone(source))
}

/// Counter of messages recognised as counted before.
pub fn source_duplicates(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_DUPLICATES, "source" => Arc::clone(source))
}

/// Counter of acknowledged messages.
pub fn source_acknowledged(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_ACKNOWLEDGED, "source" => Arc::clone(source))
}

/// Counter of messages that the configuration says to ignore.
pub fn source_ignored(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_IGNORED, "source" => Arc::clone(source))
}

/// Counter of gaps: `disconnected` for transports that keep nothing, `overrun` where the broker dropped what was kept;
/// `slow_consumer` and `undelivered` count the messages themselves.
pub fn source_gaps(source: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(SOURCE_GAPS, "source" => Arc::clone(source), "reason" => reason)
}

/// Counter of connections that went on behind the last event of the one before.
pub fn source_resumed(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_RESUMED, "source" => Arc::clone(source))
}

/// Counter of connections made.
pub fn source_connected(source: &Arc<str>) -> Counter {
    metrics::counter!(SOURCE_CONNECTED, "source" => Arc::clone(source))
}

/// Gauge of open connections.
pub fn source_connections(source: &Arc<str>) -> Gauge {
    metrics::gauge!(SOURCE_CONNECTIONS, "source" => Arc::clone(source))
}

/// Counter of refused connections.
pub fn source_connections_refused(source: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(SOURCE_CONNECTIONS_REFUSED, "source" => Arc::clone(source), "reason" => reason)
}

/// Counter of failed scrapes.
pub fn scrapes_failed(source: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(SCRAPES_FAILED, "source" => Arc::clone(source), "reason" => reason)
}

/// Counter of rotations, truncations and lost files.
pub fn source_file_resets(source: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(SOURCE_FILE_RESETS, "source" => Arc::clone(source), "reason" => reason)
}

/// Counter of what a condition on events could not use.
pub fn event_condition_unused(alert: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(EVENT_CONDITION_UNUSED, "alert" => Arc::clone(alert), "reason" => reason)
}

/// Counter of messages accepted by a receiver.
pub fn notifications_sent(receiver: &str) -> Counter {
    metrics::counter!(NOTIFICATIONS_SENT, "receiver" => receiver.to_owned())
}

/// Counter of failed attempts to send.
pub fn notifications_failed(receiver: &str, reason: &'static str) -> Counter {
    metrics::counter!(NOTIFICATIONS_FAILED, "receiver" => receiver.to_owned(), "reason" => reason)
}

/// Gauge of alerts that fire.
pub fn alerts_firing() -> Gauge {
    metrics::gauge!(ALERTS_FIRING)
}

/// Silences in one state.
pub fn silences(state: &'static str) -> Gauge {
    metrics::gauge!(SILENCES, "state" => state)
}

/// Counter of alerts that others posted, by what became of them: `taken`, or the reason of a refusal.
pub fn posted_alerts(outcome: &'static str) -> Counter {
    metrics::counter!(POSTED_ALERTS, "outcome" => outcome)
}

/// Counter of rule evaluations; `trigger` is `interval`, `reactive` or `timer`.
pub fn rule_evaluations(group: &str, trigger: &'static str) -> Counter {
    metrics::counter!(RULE_EVALUATIONS, "group" => group.to_owned(), "trigger" => trigger)
}

/// Counter of failed rule evaluations.
pub fn rule_evaluation_failures(group: &str) -> Counter {
    metrics::counter!(RULE_EVALUATION_FAILURES, "group" => group.to_owned())
}

/// How a rule group keeps its time: interval, lag and duration in seconds, and the slots that it missed so far.
pub fn rule_group(group: &str, interval_s: f64, lag_s: f64, took_s: f64, missed: u64) {
    metrics::gauge!(RULE_GROUP_INTERVAL_SECONDS, "group" => group.to_owned()).set(interval_s);
    metrics::gauge!(RULE_GROUP_LAG_SECONDS, "group" => group.to_owned()).set(lag_s);
    metrics::gauge!(RULE_GROUP_LAST_DURATION_SECONDS, "group" => group.to_owned()).set(took_s);
    metrics::counter!(RULE_GROUP_MISSED, "group" => group.to_owned()).absolute(missed);
}

/// Counter of checkpoints that could not be written.
pub fn checkpoint_failures() -> Counter {
    metrics::counter!(CHECKPOINT_FAILURES)
}

/// Histogram of the time to write a checkpoint, in seconds.
pub fn checkpoint_seconds() -> Histogram {
    metrics::histogram!(CHECKPOINT_SECONDS)
}

/// Records an attempt to reload the configuration.
pub fn config_reloaded(succeeded: bool) {
    metrics::gauge!(CONFIG_LAST_RELOAD_SUCCESSFUL).set(if succeeded { 1.0 } else { 0.0 });
    metrics::counter!(CONFIG_RELOADS, "result" => if succeeded { "success" } else { "failure" }).increment(1);
}

/// Records that the configuration the process started with was read: successful, and no reload.
pub fn config_loaded() {
    metrics::gauge!(CONFIG_LAST_RELOAD_SUCCESSFUL).set(1.0);
    for result in ["success", "failure"] {
        metrics::counter!(CONFIG_RELOADS, "result" => result).absolute(0);
    }
}

/// Gauge of live series.
pub fn series() -> Gauge {
    metrics::gauge!(SERIES)
}

/// Counter of updates that met a limit.
pub fn series_limited(metric: &str) -> Counter {
    metrics::counter!(SERIES_LIMITED, "metric" => metric.to_owned())
}

/// Counter of samples that were refused.
pub fn samples_refused(reason: &'static str) -> Counter {
    metrics::counter!(SAMPLES_REFUSED, "reason" => reason)
}

/// Histogram of the time from an alert's decision to its delivery, in seconds.
pub fn notification_latency_seconds(receiver: &str) -> Histogram {
    metrics::histogram!(NOTIFICATION_LATENCY_SECONDS, "receiver" => receiver.to_owned())
}

/// Histogram of the time from the condition to the firing, in seconds.
pub fn alert_time_to_detect(rule: &str) -> Histogram {
    metrics::histogram!(ALERT_TIME_TO_DETECT, "rule" => rule.to_owned())
}

/// Histogram of the time from the firing to the delivery, in seconds.
pub fn alert_time_to_notify(rule: &str) -> Histogram {
    metrics::histogram!(ALERT_TIME_TO_NOTIFY, "rule" => rule.to_owned())
}

/// Histogram of the time from the firing to the end, in seconds.
pub fn alert_time_to_resolve(rule: &str) -> Histogram {
    metrics::histogram!(ALERT_TIME_TO_RESOLVE, "rule" => rule.to_owned())
}

/// Counter of lines for events that were not written.
pub fn event_log_dropped(export: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(EVENT_LOG_DROPPED, "export" => Arc::clone(export), "reason" => reason)
}

/// Gauge of bytes that wait for a remote-write receiver.
pub fn remote_write_pending(export: &Arc<str>) -> Gauge {
    metrics::gauge!(REMOTE_WRITE_PENDING, "export" => Arc::clone(export))
}

/// Counter of samples taken by a remote-write receiver.
pub fn remote_write_sent(export: &Arc<str>) -> Counter {
    metrics::counter!(REMOTE_WRITE_SENT, "export" => Arc::clone(export))
}

/// Counter of failed attempts.
pub fn remote_write_failed(export: &Arc<str>) -> Counter {
    metrics::counter!(REMOTE_WRITE_FAILED, "export" => Arc::clone(export))
}

/// Counter of samples given up.
pub fn remote_write_dropped(export: &Arc<str>, reason: &'static str) -> Counter {
    metrics::counter!(REMOTE_WRITE_DROPPED, "export" => Arc::clone(export), "reason" => reason)
}

/// Gauge of the newest time sent.
pub fn remote_write_highest(export: &Arc<str>) -> Gauge {
    metrics::gauge!(REMOTE_WRITE_HIGHEST, "export" => Arc::clone(export))
}

/// Counter of pings of the watchdog; `result` is `sent`, `failed` or `withheld`.
pub fn watchdog_pings(result: &'static str) -> Counter {
    metrics::counter!(WATCHDOG_PINGS, "result" => result)
}

/// Counter of messages given up.
pub fn notification_dead_letters(receiver: &str, integration: usize) -> Counter {
    metrics::counter!(DEAD_LETTERS, "receiver" => receiver.to_owned(), "integration" => integration.to_string())
}

/// Gauge of messages on their way.
pub fn notifications_pending(receiver: &str, integration: usize) -> Gauge {
    metrics::gauge!(NOTIFICATIONS_PENDING, "receiver" => receiver.to_owned(), "integration" => integration.to_string())
}

/// Counter of news that was not sent.
pub fn notifications_withheld(reason: &str) -> Counter {
    metrics::counter!(NOTIFICATIONS_WITHHELD, "reason" => reason.to_owned())
}

/// Counter of lines of the history that could not be kept.
pub fn history_lost(reason: &'static str) -> Counter {
    metrics::counter!(HISTORY_LOST, "reason" => reason)
}

/// Counter of events of the own life cycle.
pub fn lifecycle_events(event_type: &str) -> Counter {
    metrics::counter!(LIFECYCLE_EVENTS, "type" => event_type.to_owned())
}

/// Counter of events of the life cycle that did not become part of the stream.
pub fn lifecycle_suppressed() -> Counter {
    metrics::counter!(LIFECYCLE_SUPPRESSED)
}

/// What one sink of `publish:` or `export:` counts.
#[derive(Clone)]
pub struct SinkMetrics {
    /// What the receiver took.
    pub sent: Counter,
    /// Attempts that failed.
    pub failed: Counter,
    /// What waits.
    pub pending: Gauge,
    dropped: (&'static str, Arc<str>, Option<&'static str>),
}

impl std::fmt::Debug for SinkMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SinkMetrics").field(&self.dropped).finish()
    }
}

impl SinkMetrics {
    /// Of a publisher.
    pub fn publisher(name: &Arc<str>) -> Self {
        Self {
            sent: metrics::counter!(PUBLISHED, "publisher" => Arc::clone(name)),
            failed: metrics::counter!(PUBLISH_FAILED, "publisher" => Arc::clone(name)),
            pending: metrics::gauge!(PUBLISH_PENDING, "publisher" => Arc::clone(name)),
            dropped: (PUBLISH_DROPPED, Arc::clone(name), None),
        }
    }

    /// Of one signal of an OTLP sender.
    pub fn otlp(name: &Arc<str>, signal: &'static str) -> Self {
        Self {
            sent: metrics::counter!(OTLP_SENT, "export" => Arc::clone(name), "signal" => signal),
            failed: metrics::counter!(OTLP_FAILED, "export" => Arc::clone(name), "signal" => signal),
            pending: metrics::gauge!(OTLP_PENDING, "export" => Arc::clone(name), "signal" => signal),
            dropped: (OTLP_DROPPED, Arc::clone(name), Some(signal)),
        }
    }

    /// Counts what was not sent.
    pub fn dropped(&self, reason: &'static str) -> Counter {
        let (metric, name, signal) = &self.dropped;
        match signal {
            Some(signal) => {
                metrics::counter!(*metric, "export" => Arc::clone(name), "signal" => *signal, "reason" => reason)
            }
            None if *metric == PUBLISH_DROPPED => {
                metrics::counter!(*metric, "publisher" => Arc::clone(name), "reason" => reason)
            }
            None => metrics::counter!(*metric, "export" => Arc::clone(name), "reason" => reason),
        }
    }
}

/// Histogram of the core's time for a batch, in seconds.
pub fn core_batch_seconds() -> Histogram {
    metrics::histogram!(CORE_BATCH_SECONDS)
}

/// The recorder of this process: renders the text and keeps the process's own figures fresh.
pub struct SelfMetrics {
    handle: PrometheusHandle,
    cpu: CpuCounter,
}

/// Why sidewatch's own metrics could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A program that embeds the library has installed a recorder of its own; sidewatch's figures go there.
    #[error("another metrics recorder is installed in this process; sidewatch's own metrics go there")]
    OtherRecorder,
    /// A bucket list that the exporter refuses.
    #[error("sidewatch's own metrics: {0}")]
    Build(#[from] BuildError),
}

static INSTALLED: OnceLock<SelfMetrics> = OnceLock::new();
/// Held while the recorder is built, so that two callers do not build two.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs the recorder for the whole process; a second call returns the first one's.
///
/// # Errors
/// [`InstallError::OtherRecorder`] when the process already has a recorder that is not ours.
pub fn install() -> Result<&'static SelfMetrics, InstallError> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(installed) = INSTALLED.get() {
        return Ok(installed);
    }
    let durations = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
    let lives = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(ALERT_TIME_TO_DETECT.to_owned()), &lives)?
        .set_buckets_for_metric(Matcher::Full(ALERT_TIME_TO_NOTIFY.to_owned()), &lives)?
        .set_buckets_for_metric(Matcher::Full(ALERT_TIME_TO_RESOLVE.to_owned()), &lives)?
        .set_buckets_for_metric(Matcher::Full(CHECKPOINT_SECONDS.to_owned()), &durations)?
        .set_buckets_for_metric(Matcher::Full(NOTIFICATION_LATENCY_SECONDS.to_owned()), &durations)?
        .set_buckets_for_metric(Matcher::Full(CORE_BATCH_SECONDS.to_owned()), &durations)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| InstallError::OtherRecorder)?;
    for (name, kind, unit, help) in DESCRIPTIONS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *unit, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *unit, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *unit, *help),
        }
    }
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics::gauge!(START_TIME).set(clock::now().seconds());
    // What has not failed yet is 0, not absent: a rule on it must have something to look at.
    checkpoint_failures().absolute(0);
    queue_full().absolute(0);
    let installed = INSTALLED.get_or_init(|| SelfMetrics { handle, cpu: CpuCounter::default() });
    installed.upkeep();
    Ok(installed)
}

impl SelfMetrics {
    /// The Prometheus text of every metric that is not over.
    pub fn render(&self) -> String {
        let over = |line: &&str| !line.starts_with('#') && line.ends_with(" NaN\n");
        self.render_all().split_inclusive('\n').filter(|line| !over(line)).collect()
    }

    /// The same with those that are over, as NaN.
    pub fn render_all(&self) -> String {
        let text = self.handle.render();
        // The facade's counters are integers and CPU time is not, so that it goes in as a gauge and is declared here.
        text.replacen(&format!("# TYPE {CPU_SECONDS} gauge"), &format!("# TYPE {CPU_SECONDS} counter"), 1)
    }

    /// Folds pending histogram samples and reads the process's memory and CPU time. To be called every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
        let process = ProcessFigures::read();
        if let Some(bytes) = process.resident_bytes {
            metrics::gauge!(RESIDENT_MEMORY).set(bytes as f64);
        }
        if let Some(seconds) = process.cpu_seconds {
            metrics::gauge!(CPU_SECONDS).set(self.cpu.at_least(seconds));
        }
        if let Some(open) = process.open_fds {
            metrics::gauge!(OPEN_FDS).set(open as f64);
        }
    }
}

/// CPU time as a counter must never fall, whatever order concurrent readings come in.
#[derive(Default)]
struct CpuCounter(Mutex<f64>);

impl CpuCounter {
    fn at_least(&self, seconds: f64) -> f64 {
        let mut highest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *highest = highest.max(seconds);
        *highest
    }
}

/// What the kernel says about this process; `None` where there is no /proc.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<usize>,
}

impl ProcessFigures {
    /// Reads /proc/self.
    pub fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).ok();
        Self {
            resident_bytes: read("/proc/self/status").as_deref().and_then(resident_bytes),
            cpu_seconds: read("/proc/self/stat").as_deref().and_then(cpu_seconds),
            open_fds: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        }
    }
}

/// `VmRSS:     1234 kB` of proc_pid_status(5).
fn resident_bytes(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5), in USER_HZ, which is 100 on every architecture of Linux that
/// Rust's musl and glibc targets know. The command in field 2 may hold spaces and brackets: count from the last bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1_263_616));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 9 0 99";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!((resident_bytes("Name: x"), cpu_seconds("nonsense")), (None, None));
    }

    #[test]
    fn every_name_is_ours_and_the_text_has_the_process() {
        assert!(DESCRIPTIONS.iter().all(|(name, ..)| name.starts_with("sidewatch_")));
        let metrics = install().unwrap();
        source_up(&"orders".into()).set(1.0);
        core_batch_seconds().record(0.002);
        notifications_failed("slack", "timeout").increment(2);
        source_behind(&"gone".into()).set(7.0);
        source_gone(&"gone".into());
        metrics.upkeep();
        assert!(metrics.render_all().contains("sidewatch_source_behind{source=\"gone\"} NaN"));
        let text = metrics.render();
        for expected in [
            "# TYPE sidewatch_process_cpu_seconds_total counter",
            "# TYPE sidewatch_process_resident_memory_bytes gauge",
            concat!("sidewatch_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "sidewatch_source_up{source=\"orders\"} 1",
            "sidewatch_core_batch_seconds_bucket{le=\"0.005\"}",
            "sidewatch_notifications_failed_total{receiver=\"slack\",reason=\"timeout\"} 2",
            "sidewatch_checkpoint_failures_total 0",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(!text.contains("\"gone\"") && !text.contains("NaN"), "{text}");
        assert!(std::ptr::eq(metrics, install().unwrap()), "a second call returns the first one's");
    }
}
