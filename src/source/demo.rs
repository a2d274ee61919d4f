//! The demo: a shop's event stream that runs into one trouble after another.
//!
//! [`DemoStream`] is a pure generator: the same seed gives the same shop. Each minute and a quarter it tells the same
//! story: calm; payments are refused; checkouts in one region become slow; a worker falls silent; an article runs out.
//! Each trouble ends, so that every alert fires and resolves within a minute.

mod random;

use super::decode::Framing;
use super::{SourceContext, SourceState};
use crate::telemetry::clock;
use random::Random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The configuration that `sidewatch demo` runs, as the text of a sidewatch.yaml.
pub const CONFIG: &str = include_str!("demo/sidewatch.yaml");

/// Between two looks at the shop.
const STEP_MS: i64 = 50;
/// The story's length.
const STORY_MS: i64 = 75_000;
const ORDERS_PER_S: f64 = 12.0;
const CART_UPDATES_PER_S: f64 = 18.0;
const STOCK_UPDATES_PER_S: f64 = 6.0;
const REGIONS: [&str; 3] = ["eu", "us", "ap"];
const WORKERS: [&str; 3] = ["packer-1", "packer-2", "mailer-1"];
const ARTICLES: [&str; 6] = ["tea", "coffee", "mugs", "kettles", "biscuits", "honey"];

/// The troubles, each with its first and last moment in the story (milliseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    PaymentsRefused,
    SlowCheckouts,
    SilentWorker,
    LowStock,
    StuckPayment,
}

impl Trouble {
    fn span_ms(self) -> (i64, i64) {
        match self {
            Self::PaymentsRefused => (5_000, 17_000),
            Self::StuckPayment => (20_000, 20_400),
            Self::SlowCheckouts => (26_000, 38_000),
            Self::SilentWorker => (42_000, 53_000),
            Self::LowStock => (56_000, 66_000),
        }
    }

    fn is_on(self, story_ms: i64) -> bool {
        let (from, to) = self.span_ms();
        (from..to).contains(&story_ms)
    }
}

/// The shop.
#[derive(Debug)]
pub struct DemoStream {
    random: Random,
    number: u64,
    now_ms: i64,
    due: BTreeMap<(i64, u64), Value>,
    stock: [i64; ARTICLES.len()],
    next_heartbeat_ms: i64,
}

impl DemoStream {
    /// A shop whose every accident follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            number: 0,
            now_ms: 0,
            due: BTreeMap::new(),
            stock: [80; 6],
            next_heartbeat_ms: 0,
        }
    }

    /// Lets the shop live until `elapsed_ms` after its opening; the events of that time as JSON lines, their times
    /// counted from `opened_ms` (milliseconds since the epoch).
    pub fn until(&mut self, elapsed_ms: i64, opened_ms: i64) -> String {
        while self.now_ms < elapsed_ms {
            self.step();
            self.now_ms += STEP_MS;
        }
        let rest = self.due.split_off(&(elapsed_ms, 0));
        let mut out = String::new();
        for ((at_ms, _), mut event) in std::mem::replace(&mut self.due, rest) {
            event["time"] = crate::model::Timestamp::from_millis(opened_ms + at_ms).rfc3339().into();
            out.push_str(&event.to_string());
            out.push('\n');
        }
        out
    }

    fn happens(&mut self, per_second: f64) -> u64 {
        let expected = per_second * STEP_MS as f64 / 1_000.0;
        expected as u64 + u64::from(self.random.unit() < expected.fract())
    }

    fn emit(&mut self, at_ms: i64, event_type: &str, source: &str, subject: &str, correlation: &str, data: Value) {
        self.number += 1;
        let event = json!({
            "specversion": "1.0", "id": format!("e{:06}", self.number), "source": source, "type": event_type,
            "subject": subject, "correlationid": correlation, "data": data,
        });
        self.due.insert((at_ms.max(self.now_ms), self.number), event);
    }

    fn step(&mut self) {
        let story_ms = self.now_ms % STORY_MS;
        for _ in 0..self.happens(ORDERS_PER_S) {
            self.order(story_ms, false);
        }
        if Trouble::StuckPayment.is_on(story_ms) && story_ms % 200 == 0 {
            self.order(story_ms, true);
        }
        for _ in 0..self.happens(CART_UPDATES_PER_S) {
            let (cart, items) = (self.random.below(900), 1 + self.random.below(6));
            let duration_ms = self.random.log_normal(8.0, 0.5);
            let data = json!({"items": items, "region": self.region(), "duration_ms": rounded(duration_ms)});
            self.emit(
                self.now_ms,
                "cart.updated",
                "storefront",
                &format!("cart-{cart}"),
                &format!("cart-{cart}"),
                data,
            );
        }
        for _ in 0..self.happens(STOCK_UPDATES_PER_S) {
            self.stock_update(story_ms);
        }
        if self.now_ms >= self.next_heartbeat_ms {
            self.next_heartbeat_ms = self.now_ms + 1_000;
            for worker in WORKERS {
                if worker == "packer-2" && Trouble::SilentWorker.is_on(story_ms) {
                    continue;
                }
                let load = 0.2 + 0.6 * self.random.unit();
                self.emit(
                    self.now_ms,
                    "worker.heartbeat",
                    "warehouse",
                    worker,
                    "",
                    json!({"worker": worker, "load": rounded(load)}),
                );
            }
        }
    }

    fn region(&mut self) -> &'static str {
        REGIONS[self.random.below(REGIONS.len() as u64) as usize]
    }

    /// An order from placing to its end: placed, payment captured or failed, completed or failed.
    fn order(&mut self, story_ms: i64, stuck: bool) {
        let order = format!("order-{}", 10_000 + self.number);
        let region = self.region();
        let amount = rounded(self.random.log_normal(60.0, 0.8));
        self.emit(self.now_ms, "order.placed", "checkout", &order, &order, json!({"amount": amount, "region": region}));
        if stuck {
            return;
        }
        let refused = if Trouble::PaymentsRefused.is_on(story_ms) { 0.6 } else { 0.01 };
        let payment_ms = self.random.log_normal(90.0, 0.4);
        let paid_at_ms = self.now_ms + payment_ms as i64;
        if self.random.unit() < refused {
            let reason = ["card_declined", "bank_unreachable", "limit_exceeded"][self.random.below(3) as usize];
            let data =
                json!({"amount": amount, "region": region, "reason": reason, "duration_ms": rounded(payment_ms)});
            self.emit(paid_at_ms, "payment.failed", "payments", &order, &order, data);
            let data = json!({"amount": amount, "region": region, "status": "failed"});
            self.emit(paid_at_ms + 5, "order.failed", "checkout", &order, &order, data);
            return;
        }
        let data = json!({"amount": amount, "region": region, "duration_ms": rounded(payment_ms)});
        self.emit(paid_at_ms, "payment.captured", "payments", &order, &order, data);
        let slow = Trouble::SlowCheckouts.is_on(story_ms) && region == "eu";
        let checkout_ms = self.random.log_normal(if slow { 900.0 } else { 120.0 }, 0.35);
        let data = json!({"amount": amount, "region": region, "status": "ok", "duration_ms": rounded(checkout_ms)});
        self.emit(paid_at_ms + checkout_ms as i64, "order.completed", "checkout", &order, &order, data);
    }

    fn stock_update(&mut self, story_ms: i64) {
        let article = self.random.below(ARTICLES.len() as u64) as usize;
        let sold = 1 + self.random.below(4) as i64;
        let level = &mut self.stock[article];
        *level = if article == 0 && Trouble::LowStock.is_on(story_ms) { 3 } else { *level - sold };
        // The warehouse fills up in time, but for the one story.
        if *level < 20 && !(article == 0 && Trouble::LowStock.is_on(story_ms)) {
            *level = 90;
        }
        let data = json!({"quantity": *level, "delta": -sold});
        self.emit(self.now_ms, "stock.updated", "warehouse", ARTICLES[article], "", data);
    }
}

/// Three decimals, as a service would write it.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Runs the shop in real time until cancelled.
pub(super) async fn run(context: &SourceContext, cancel: &CancellationToken) {
    context.report(SourceState::Connected).await;
    let opened = clock::now();
    let mut stream = DemoStream::new(opened.micros().unsigned_abs());
    loop {
        let elapsed_ms = clock::now().millis_since(opened);
        let lines = stream.until(elapsed_ms, opened.millis());
        if !lines.is_empty() && !context.deliver(lines.into_bytes(), Framing::Ndjson, 0, None).await {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = cancel.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &str, keep: impl Fn(&Value) -> bool) -> usize {
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|event| keep(event)).count()
    }

    #[test]
    fn the_story_has_its_troubles_and_each_of_them_ends() {
        let mut stream = DemoStream::new(7);
        let mut second = |to_s: i64| stream.until(to_s * 1_000, 1_795_000_000_000);
        let failed = |event: &Value| event["type"] == "payment.failed";
        let calm = count(&second(5), failed);
        let refused = count(&second(17), failed);
        let after = count(&second(25), failed);
        assert!(calm <= 3 && refused >= 40 && after <= 8, "{calm} {refused} {after}");
        let slow = count(&second(39), |event| {
            event["type"] == "order.completed" && event["data"]["duration_ms"].as_f64() > Some(500.0)
        });
        assert!(slow >= 10, "{slow}");
        let beats = |lines: &str| count(lines, |event| event["subject"] == "packer-2");
        assert!(beats(&second(42)) >= 2);
        assert_eq!(beats(&second(53)), 0);
        let low = |event: &Value| event["type"] == "stock.updated" && event["data"]["quantity"].as_i64() < Some(10);
        assert_eq!(count(&second(56), low), 0);
        assert!(count(&second(66), low) >= 3);
        assert_eq!(count(&second(75), low), 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_shop_however_often_one_looks() {
        let (mut a, mut b) = (DemoStream::new(1), DemoStream::new(1));
        let whole = a.until(30_000, 0);
        let parts: String = (1..=300).map(|at| b.until(at * 100, 0)).collect();
        assert_eq!(whole, parts);
        let per_second = whole.lines().count() / 30;
        assert!((40..90).contains(&per_second), "{per_second} events/s");
    }
}
