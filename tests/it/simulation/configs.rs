//! The configurations that a simulated sidewatch reloads between, and what the model knows of them.

use sidewatch::app::build;
use sidewatch::config::{Overrides, load_text};
use sidewatch::engine::Parts;

/// One configuration with what the model must know.
pub struct Setup {
    pub parts: Parts,
    /// `LowStock` fires below this.
    pub low: i64,
    /// `LowHeld` fires below this.
    pub held: i64,
    pub has_ops: bool,
    /// The shortest `repeat_interval`.
    pub repeat_ms: i64,
    /// Which receivers are told of `LowStock`; all other alerts go to `chat`.
    pub low_to: &'static [&'static str],
}

/// `absent` and `sequence` conclude after these, in milliseconds.
pub const SILENT_MS: i64 = 15_000;
pub const STUCK_MS: i64 = 10_000;
/// `count` in [`COUNT_MS`] raises `Refusals`.
pub const COUNT: usize = 5;
pub const COUNT_MS: i64 = 20_000;
/// `LowKept` fires below this.
pub const KEPT: i64 = 3;

const COMMON: &str = "\
service: {name: shop, instance: sim}
sources:
  log: {file: {path: events.log}}
  beats: {file: {path: beats.log}}
bundled_rules: false
evaluation_interval: 5s
limits: {idle_series: 100d, pattern_keys: 2000}
metrics:
  orders_total: {counter: {match: 'order.*', labels: {region: data.region}}}
  amount_total: {counter: {match: order.placed, value: data.amount, labels: {region: data.region}}}
  took: {histogram: {match: payment.captured, value: data.took}}
  stock: {gauge: {match: stock.updated, value: data.quantity, labels: {item: data.item}}}
";

const ALERTS: &str = "
  LowKept: {metric: stock, by: item, below: 3, keep_firing_for: 20s}
  WorkerSilent: {event: {absent: worker.heartbeat, by: data.worker, within: 15s}}
  Stuck: {event: {sequence: [order.placed, payment.captured], by: data.order, within: 10s, missing: last}}
  Refusals: {event: {match: payment.refused, count: '>= 5', within: 20s, by: data.region}}
";

fn setup(text: &str) -> Parts {
    let (config, mut found) = load_text("sim.yaml", text, &Default::default(), &Overrides::default());
    let parts = config.as_ref().and_then(|config| build(config, &mut found));
    assert!(!found.has_errors(), "{found}");
    parts.unwrap()
}

/// All configurations. `dir` holds the file of the one that routes as Alertmanager does.
pub fn setups(dir: &std::path::Path) -> Vec<Setup> {
    let url = "http://127.0.0.1:9/";
    let first = format!(
        "{COMMON}alerts:\n  LowStock: {{metric: stock, by: item, below: 10, notify: [chat, ops]}}\n  \
         LowHeld: {{metric: stock, by: item, below: 5, for: 10s}}\n  \
         Rate: {{expr: 'sum(rate(orders_total[1m])) > 5', for: 5s}}{ALERTS}\
         notify:\n  chat: {{webhook: {{url: '{url}'}}}}\n  ops: {{webhook: {{url: '{url}'}}}}\n"
    );
    let second = format!(
        "{COMMON}  by_type_total: {{counter: {{match: '*', labels: {{type: type}}}}}}\n\
         alerts:\n  LowStock: {{metric: stock, by: item, below: 20, labels: {{}}}}\n  \
         LowHeld: {{metric: stock, by: item, below: 5, for: 20s}}\n  \
         Failing: {{metric: events_failed_total, of: events_total, over: 1m, above: 30%}}{ALERTS}\
         notify:\n  chat: {{webhook: {{url: '{url}'}}}}\n"
    );
    let file = dir.join("alertmanager.yml");
    std::fs::write(
        &file,
        format!(
            "route:\n  receiver: chat\n  group_by: [alertname]\n  group_wait: 5s\n  group_interval: 10s\n  repeat_interval: 2m\n  \
             routes:\n    - matchers: [alertname=\"LowStock\"]\n      receiver: ops\n      group_by: [alertname, item]\n\
             receivers:\n  - name: chat\n    webhook_configs: [{{url: '{url}'}}]\n  - name: ops\n    webhook_configs: [{{url: '{url}'}}]\n"
        ),
    )
    .unwrap();
    let third = format!(
        "{COMMON}alerts:\n  LowStock: {{metric: stock, by: item, below: 10}}\n  \
         LowHeld: {{metric: stock, by: item, below: 8, for: 10s}}{ALERTS}\
         notify:\n  alertmanager: {}\n",
        file.display()
    );
    vec![
        Setup {
            parts: setup(&first),
            low: 10,
            held: 5,
            has_ops: true,
            repeat_ms: 14_400_000,
            low_to: &["chat", "ops"],
        },
        Setup { parts: setup(&second), low: 20, held: 5, has_ops: false, repeat_ms: 14_400_000, low_to: &["chat"] },
        Setup { parts: setup(&third), low: 10, held: 8, has_ops: true, repeat_ms: 120_000, low_to: &["ops"] },
    ]
}
