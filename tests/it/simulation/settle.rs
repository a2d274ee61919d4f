//! Quiet points: everything works again for a while, and what the program says must be what happened.

use super::configs::{COUNT, COUNT_MS, KEPT, SILENT_MS, STUCK_MS};
use super::model::{Counts, ITEMS, Said, WORKERS};
use super::world::World;
use sidewatch::model::{Alert, AlertStatus};
use sidewatch::promql::{Options, Query, SampleValue, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longer than any retry, any wait and any window.
const QUIET_MS: i64 = 150_000;

fn values(world: &World<'_>, query: &str, label: &str) -> BTreeMap<String, f64> {
    let query = Query::parse(query).unwrap();
    let store = world.process.as_ref().unwrap().core.engine.store();
    let Value::Vector(samples) = query.instant(store, world.now, &Options::default()).unwrap().value else { panic!() };
    let pairs = samples.into_iter().map(|sample| {
        let SampleValue::Float(value) = sample.value else { panic!() };
        (sample.labels.get(label).unwrap_or_default().to_owned(), value)
    });
    pairs.collect()
}

fn firing(world: &mut World<'_>) -> Vec<Arc<Alert>> {
    let (_, all) = world.process.as_mut().unwrap().core.engine.published();
    all.iter().filter(|alert| alert.status() == AlertStatus::Firing).cloned().collect()
}

fn check_counts(world: &World<'_>) {
    let expected = Counts::of(world.logs.iter().flat_map(|log| &log.entries));
    let one = |query: &str| values(world, query, "").get("").copied().unwrap_or(0.0);
    let found = Counts {
        by_type: values(world, "sum by (type) (events_total)", "type"),
        orders: values(world, "sum by (region) (orders_total)", "region"),
        amounts: values(world, "sum by (region) (amount_total)", "region"),
        took_count: one("sum(took_count)"),
        took_sum: one("sum(took_sum)"),
        stock: values(world, "stock", "item"),
    };
    let found = Counts { orders: found.orders.into_iter().filter(|(_, value)| *value > 0.0).collect(), ..found };
    assert_eq!(found, expected, "at a quiet point the metrics are not what happened");
}

/// The labels that tell alerts apart, as text.
fn id(alert: &Alert) -> String {
    let one = ["item", "worker", "order", "region", "source"].iter().find_map(|label| alert.labels.get(label));
    format!("{} {}", alert.name(), one.unwrap_or_default())
}

fn check_alerts(world: &mut World<'_>) -> Vec<Arc<Alert>> {
    let now = world.now;
    let firing = firing(world);
    let found: BTreeSet<String> = firing.iter().map(|alert| id(alert)).collect();
    let mut expected = BTreeSet::new();
    let stock = Counts::of(world.logs[0].entries.iter()).stock;
    for item in ITEMS {
        let Some(value) = stock.get(item) else { continue };
        let config = world.config();
        for (name, threshold) in [("LowStock", config.low), ("LowHeld", config.held), ("LowKept", KEPT)] {
            if *value < threshold as f64 {
                expected.insert(format!("{name} {item}"));
            }
        }
    }
    for worker in 0..WORKERS {
        let last = world.logs[1].entries.iter().rev().find(|(_, said)| matches!(said, Said::Beat(w) if *w == worker));
        if last.is_some_and(|(t, _)| now - t > SILENT_MS + 5_000) {
            expected.insert(format!("WorkerSilent w{worker}"));
        }
    }
    for (order, (placed, captured)) in &world.orders {
        let age = now - placed;
        if captured.is_none() && age > STUCK_MS + 5_000 && age < 3_300_000 {
            expected.insert(format!("Stuck o{order}"));
        }
    }
    let lost: Vec<_> = expected.difference(&found).collect();
    assert!(lost.is_empty(), "at a quiet point alerts are missing: {lost:?}");
    // An order that is stuck for about an hour may be forgotten or not.
    let old = |name: &&String| {
        let order = name.strip_prefix("Stuck o").and_then(|order| order.parse().ok());
        order
            .and_then(|order: u64| world.orders.get(&order))
            .is_some_and(|(placed, captured)| captured.is_none() && (3_300_000..4_500_000).contains(&(now - placed)))
    };
    let wrong: Vec<_> = found.difference(&expected).filter(|name| !old(name)).collect();
    assert!(wrong.is_empty(), "at a quiet point these fire without a reason: {wrong:?}");
    firing
}

fn check_beliefs(world: &World<'_>, firing: &[Arc<Alert>]) {
    let names: BTreeMap<u64, String> = firing.iter().map(|alert| (alert.fingerprint(), id(alert))).collect();
    for receiver in ["chat", "ops"] {
        if receiver == "ops" && !world.config().has_ops {
            continue;
        }
        let believed = world.receivers.believes(receiver, false);
        for alert in firing {
            let told = if alert.name() == "LowStock" { world.config().low_to } else { &["chat"] };
            assert!(
                !told.contains(&receiver) || believed.contains_key(&alert.fingerprint()),
                "{receiver} was not told that {} fires",
                id(alert)
            );
        }
        for (alert, told) in world.receivers.believes(receiver, true) {
            assert!(names.contains_key(&alert), "{receiver} was not told that this ended: {told}");
        }
    }
}

/// Lets time pass until everything is delivered.
fn rest(world: &mut World<'_>) {
    let end = world.now + QUIET_MS;
    world.run_until(end);
    while !world.delivered_all() {
        assert!(world.now < end + 5_000, "events are not delivered");
        world.run_until(world.now + 20);
    }
}

/// Everything works for a while; what is true at its end must be known to everybody. The last time all troubles end too.
pub fn settle(world: &mut World<'_>, last: bool) {
    world.heal();
    world.calm = true;
    world.run_until(world.now + 1_000);
    while world.process.is_none() {
        world.run_until(world.now + 10_000);
    }
    world.order();
    // Orders that are still being paid end by then.
    rest(world);
    check_counts(world);
    let known = check_alerts(world);
    check_beliefs(world, &known);

    let (before, many) = (world.now, COUNT + 2);
    world.refuse(many);
    world.run_until(before + 400);
    let raised = firing(world).iter().any(|alert| alert.name() == "Refusals");
    assert!(raised, "{many} refusals within {COUNT_MS} ms raise nothing");
    if !last {
        return;
    }
    for item in 0..ITEMS.len() {
        world.say(Said::Stock(item, 100));
    }
    world.dead.clear();
    let stuck: Vec<u64> =
        world.orders.iter().filter(|(_, (_, captured))| captured.is_none()).map(|(o, _)| *o).collect();
    for order in stuck {
        world.orders.get_mut(&order).unwrap().1 = Some(world.now);
        world.say(Said::Captured(order, 1));
    }
    rest(world);
    let left = firing(world);
    assert!(left.is_empty(), "after all troubles ended: {:?}", left.iter().map(|alert| id(alert)).collect::<Vec<_>>());
    check_counts(world);
    check_beliefs(world, &[]);
}
