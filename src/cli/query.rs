//! `sidewatch query EXPR`.

use super::client::{base_url, block_on, prometheus};
use super::{Common, Failure};
use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::Value;

/// Ask a running sidewatch in PromQL.
#[derive(Debug, Args)]
pub struct Query {
    /// The expression, for example 'sum by (type) (rate(events_total[1m]))'.
    expr: String,
    /// The observe listener of the sidewatch to ask.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The moment: RFC 3339 or seconds since the epoch; now when absent.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Query {
    /// Asks and prints one line a series.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let address =
            self.url.clone().or_else(|| common.listen_observe.clone()).unwrap_or_else(|| "127.0.0.1:9180".into());
        let base = base_url(&address);
        let mut parameters = vec![("query", self.expr.clone())];
        if let Some(time) = &self.time {
            parameters.push(("time", time.clone()));
        }
        let data = block_on(prometheus(&base, "/api/v1/query", &parameters)).map_err(Failure::Runtime)?;
        if self.json {
            println!("{data}");
            return Ok(());
        }
        let text = print(&data)?;
        println!("{}", if text.is_empty() { "(nothing: no series matches now)" } else { &text });
        Ok(())
    }
}

/// One line a sample: `series value`, or `series value @time` for the samples of a range.
fn print(data: &Value) -> Result<String, Failure> {
    let unknown = || Failure::Runtime(anyhow!("an answer of an unknown kind: {data}"));
    let result = &data["result"];
    let lines: Vec<String> = match data["resultType"].as_str() {
        Some("scalar" | "string") => vec![text(&result[1])],
        Some("vector") => result
            .as_array()
            .ok_or_else(unknown)?
            .iter()
            .map(|one| format!("{}  {}", series(&one["metric"]), sample(one)))
            .collect(),
        Some("matrix") => result
            .as_array()
            .ok_or_else(unknown)?
            .iter()
            .flat_map(|one| {
                let name = series(&one["metric"]);
                let values = one["values"].as_array().into_iter().flatten();
                std::iter::once(name).chain(values.map(|pair| format!("  {} @{}", text(&pair[1]), pair[0])))
            })
            .collect(),
        _ => return Err(unknown()),
    };
    Ok(lines.join("\n"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

fn sample(one: &Value) -> String {
    match one["value"].as_array() {
        Some(pair) => text(&pair[1]),
        None => format!("count {} sum {}", text(&one["histogram"][1]["count"]), text(&one["histogram"][1]["sum"])),
    }
}

fn series(metric: &Value) -> String {
    let labels = metric.as_object().into_iter().flatten();
    crate::model::Labels::from_pairs(labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_print_one_line_a_series() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {}, "histogram": [1, {"count": "3", "sum": "4.5", "buckets": []}]},
        ]});
        assert_eq!(print(&vector).unwrap(), "up{job=\"a\"}  1\n{}  count 3 sum 4.5");
        assert_eq!(print(&json!({"resultType": "scalar", "result": [1, "2"]})).unwrap(), "2");
    }
}
