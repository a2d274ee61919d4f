//! A program that embeds the library: it pushes its events through a `memory` source and asks over HTTP.

use crate::harness::{eventually, get};
use sidewatch::app::{Configured, run};
use sidewatch::config::{Overrides, load_text};
use sidewatch::source::decode::Framing;
use tokio_util::sync::CancellationToken;

#[test]
fn a_program_pushes_its_own_events() {
    let text = "profile: testing\nsources: {mine: {memory: {}}}\nmetrics: {sold_total: {counter: {match: sold, value: data.n}}}\n";
    let (config, found) = load_text("embedded.yaml", text, &Default::default(), &Overrides::default());
    let configured = Configured::new(config, found, None).unwrap();
    let stop = CancellationToken::new();
    let (told, started) = std::sync::mpsc::sync_channel(1);
    let ended = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(run(configured, move |up| told.send(up).unwrap(), stop))
        }
    });
    let up = started.recv().unwrap();
    let now = sidewatch::telemetry::clock::now();
    let pushed =
        up.memory["mine"].push(br#"[{"type":"sold","payload":{"n":2}},{"no":"type"}]"#.to_vec(), Framing::Auto, now);
    let (accepted, refused) = pushed.unwrap();
    assert_eq!((accepted, refused.len()), (1, 1));
    eventually("the counter", 10, || {
        get(up.addresses.observe.port(), "/api/v1/query?query=sold_total").1.contains(",\"2\"]").then_some(())
    });
    stop.cancel();
    ended.join().unwrap().unwrap();
}
