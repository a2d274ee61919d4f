//! `sidewatch silence add|list|expire|show`: silences of a running sidewatch.

use super::client::{base_url, block_on, client, exchange};
use super::{Common, Failure};
use crate::model::{Timestamp, parse_duration_ms};
use crate::notify::{MatchOp, Matcher, parse_matchers};
use crate::telemetry::clock;
use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;

/// How long a silence holds without `--duration`.
const DURATION: &str = "1h";

/// Silence alerts of a running sidewatch.
#[derive(Debug, Subcommand)]
pub enum Silence {
    /// Silence what matches all of the matchers.
    #[command(
        after_help = "Examples:\n  sidewatch silence add alertname=LowStock --duration 2h --comment 'delivery at noon'\n  \
                            sidewatch silence add LowStock 'instance=~\"shop-.*\"'"
    )]
    Add(Add),
    /// The silences that hold or will hold.
    List(List),
    /// End silences now.
    Expire(Expire),
    /// Everything about one silence.
    Show(Show),
}

/// What all of them take.
#[derive(Debug, Args)]
pub struct Asked {
    /// The observe listener of the sidewatch to ask.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// `silence add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Matchers such as alertname=LowStock, severity!=page, team=~"a|b"; a first word alone is the alert's name.
    #[arg(required = true, value_name = "MATCHER")]
    matchers: Vec<String>,
    /// How long it holds: 30m, 2h, 1d.
    #[arg(long, short, value_name = "DURATION", default_value = DURATION)]
    duration: String,
    /// When it begins, RFC 3339; now when absent.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// When it ends, RFC 3339, in place of a duration.
    #[arg(long, value_name = "TIME", conflicts_with = "duration")]
    end: Option<String>,
    /// Why, for those who wonder.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    /// Who; the user that runs this when absent.
    #[arg(long, short, value_name = "NAME")]
    author: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// `silence list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only silences that have these very matchers.
    #[arg(value_name = "MATCHER")]
    matchers: Vec<String>,
    /// Those that expired in the last 120 h as well.
    #[arg(long)]
    expired: bool,
    #[command(flatten)]
    asked: Asked,
}

/// `silence expire`.
#[derive(Debug, Args)]
pub struct Expire {
    /// Ids, or as many of their first characters as tell them apart.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    asked: Asked,
}

/// `silence show`.
#[derive(Debug, Args)]
pub struct Show {
    /// An id, or as many of its first characters as tell it apart.
    id: String,
    #[command(flatten)]
    asked: Asked,
}

impl Silence {
    /// Asks and prints.
    pub fn run(&self, common: &Common) -> Result<(), Failure> {
        let asked = match self {
            Self::Add(Add { asked, .. })
            | Self::List(List { asked, .. })
            | Self::Expire(Expire { asked, .. })
            | Self::Show(Show { asked, .. }) => asked,
        };
        let address =
            asked.url.clone().or_else(|| common.listen_observe.clone()).unwrap_or_else(|| "127.0.0.1:9180".into());
        let base = base_url(&address);
        match self {
            Self::Add(add) => {
                let body = add.body().map_err(|error| Failure::Configuration(format!("sidewatch: {error:#}")))?;
                block_on(add.run(&base, &body)).map_err(Failure::Runtime)
            }
            Self::List(list) => block_on(list.run(&base)).map_err(Failure::Runtime),
            Self::Expire(expire) => block_on(expire.run(&base)).map_err(Failure::Runtime),
            Self::Show(show) => block_on(show.run(&base)).map_err(Failure::Runtime),
        }
    }
}

/// A request to the API; an answer that is no success is an error with its text.
async fn ask(base: &str, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut request = client()?.request(method, format!("{base}/api/v2/{path}"));
    if let Some(body) = body {
        request = request.json(body);
    }
    let (status, text) = exchange(request, base).await?;
    let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status == 200 {
        return Ok(answer);
    }
    let said = [&answer, &answer["message"], &answer["error"]].into_iter().find_map(Value::as_str);
    let hint = answer["hint"].as_str().map(|hint| format!(" ({hint})")).unwrap_or_default();
    bail!("{}{hint}", said.map_or_else(|| format!("{base} answered {status} {text}"), str::to_owned))
}

impl Add {
    fn body(&self) -> Result<Value> {
        let mut matchers: Vec<Matcher> = Vec::new();
        for (at, text) in self.matchers.iter().enumerate() {
            if at == 0 && !text.contains(['=', '!', '{', ',', '~']) {
                matchers.push(Matcher::new("alertname", MatchOp::Equal, text.as_str()).map_err(anyhow::Error::msg)?);
                continue;
            }
            let read = parse_matchers(text);
            matchers.extend(read.map_err(|error| {
                anyhow!("{error}; a matcher is like alertname=LowStock, severity!=page or team=~\"a|b\"")
            })?);
        }
        let now = clock::now();
        let starts_at = self.start.as_deref().map_or(Ok(now), moment)?;
        let ends_at = match &self.end {
            Some(end) => moment(end)?,
            None => starts_at.plus_millis(parse_duration_ms(&self.duration).map_err(anyhow::Error::msg)?),
        };
        let matcher = |matcher: &Matcher| {
            json!({
                "name": matcher.name, "value": matcher.value,
                "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Matches),
                "isRegex": matches!(matcher.op, MatchOp::Matches | MatchOp::NotMatches),
            })
        };
        let author = self.author.clone().or_else(user).unwrap_or_else(|| "sidewatch".into());
        Ok(json!({
            "matchers": matchers.iter().map(matcher).collect::<Vec<_>>(),
            "startsAt": starts_at.rfc3339(), "endsAt": ends_at.rfc3339(),
            "createdBy": author, "comment": self.comment,
        }))
    }

    async fn run(&self, base: &str, body: &Value) -> Result<()> {
        let answer = ask(base, reqwest::Method::POST, "silences", Some(body)).await?;
        let id = answer["silenceID"].as_str().unwrap_or_default();
        if self.asked.json {
            println!("{answer}");
            return Ok(());
        }
        println!("{id}");
        // How many alerts it takes now is what whoever mistyped a matcher wants to know.
        let alerts = ask(base, reqwest::Method::GET, "alerts", None).await?;
        let holds =
            |alert: &&Value| alert["status"]["silencedBy"].as_array().is_some_and(|ids| ids.contains(&id.into()));
        let count = alerts.as_array().into_iter().flatten().filter(holds).count();
        let end = body["endsAt"].as_str().unwrap_or_default();
        eprintln!(
            "silenced until {end}; {}",
            match count {
                0 => "no alert that fires now matches".into(),
                1 => "1 alert that fires now matches".into(),
                count => format!("{count} alerts that fire now match"),
            }
        );
        Ok(())
    }
}

impl List {
    async fn run(&self, base: &str) -> Result<()> {
        let mut list = ask(base, reqwest::Method::GET, "silences", None).await?;
        let mut wanted: Vec<String> = Vec::new();
        for text in &self.matchers {
            let read = parse_matchers(text).map_err(anyhow::Error::msg)?;
            wanted.extend(read.iter().map(ToString::to_string));
        }
        if let Some(list) = list.as_array_mut() {
            list.retain(|silence| self.expired || silence["status"]["state"] != "expired");
            list.retain(|silence| wanted.iter().all(|wanted| matchers(silence).contains(wanted)));
        }
        if self.asked.json {
            println!("{list}");
            return Ok(());
        }
        let silences: Vec<&Value> = list.as_array().into_iter().flatten().collect();
        if silences.is_empty() {
            println!("(no silence{})", if self.expired { "" } else { " holds or will hold" });
        }
        print!("{}", table(&silences, is_coloured()));
        Ok(())
    }
}

impl Expire {
    async fn run(&self, base: &str) -> Result<()> {
        for id in &self.ids {
            let id = whole_id(base, id).await?;
            ask(base, reqwest::Method::DELETE, &format!("silence/{id}"), None).await?;
            if self.asked.json {
                println!("{}", json!({"expired": id}));
            } else {
                println!("expired {id}");
            }
        }
        Ok(())
    }
}

impl Show {
    async fn run(&self, base: &str) -> Result<()> {
        let id = whole_id(base, &self.id).await?;
        let silence = ask(base, reqwest::Method::GET, &format!("silence/{id}"), None).await?;
        if self.asked.json {
            println!("{silence}");
            return Ok(());
        }
        let alerts = ask(base, reqwest::Method::GET, "alerts", None).await?;
        let field = |name: &str| silence[name].as_str().unwrap_or_default();
        println!("id          {id}");
        println!("state       {}", painted(state(&silence), is_coloured()));
        println!("matchers    {}", matchers(&silence).join(" "));
        println!("from        {}", field("startsAt"));
        println!("until       {}", field("endsAt"));
        println!("created by  {}", field("createdBy"));
        println!("comment     {}", field("comment"));
        for alert in alerts.as_array().into_iter().flatten() {
            if alert["status"]["silencedBy"].as_array().is_some_and(|ids| ids.contains(&silence["id"])) {
                let labels = alert["labels"].as_object().into_iter().flatten();
                let pairs = labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
                println!("silences    {}", crate::model::Labels::from_pairs(pairs));
            }
        }
        Ok(())
    }
}

/// The id that begins so.
async fn whole_id(base: &str, start: &str) -> Result<String> {
    if start.len() == 36 {
        return Ok(start.to_owned());
    }
    let list = ask(base, reqwest::Method::GET, "silences", None).await?;
    let ids = list.as_array().into_iter().flatten().filter_map(|silence| silence["id"].as_str());
    let found: Vec<&str> = ids.filter(|id| id.starts_with(start)).collect();
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => bail!("no silence has an id that begins with {start:?}; `sidewatch silence list` shows them"),
        several => bail!("{} silences have an id that begins with {start:?}: {}", several.len(), several.join(", ")),
    }
}

fn state(silence: &Value) -> &str {
    silence["status"]["state"].as_str().unwrap_or_default()
}

/// Each as `name="value"`.
fn matchers(silence: &Value) -> Vec<String> {
    let one = |matcher: &Value| {
        let op = match (matcher["isEqual"].as_bool().unwrap_or(true), matcher["isRegex"].as_bool().unwrap_or_default())
        {
            (true, false) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Matches,
            (false, true) => MatchOp::NotMatches,
        };
        let field = |name: &str| matcher[name].as_str().unwrap_or_default();
        Matcher::new(field("name"), op, field("value")).map_or_else(|error| error, |matcher| matcher.to_string())
    };
    silence["matchers"].as_array().into_iter().flatten().map(one).collect()
}

/// One line a silence, in columns.
fn table(silences: &[&Value], coloured: bool) -> String {
    let row = |silence: &&Value| {
        let field = |name: &str| silence[name].as_str().unwrap_or_default().to_owned();
        let moment = |name: &str| field(name).get(..16).unwrap_or_default().replace('T', " ");
        let (state, matchers) = (state(silence).to_owned(), matchers(silence).join(" "));
        [field("id"), state, moment("startsAt"), moment("endsAt"), field("createdBy"), matchers, field("comment")]
    };
    let head = ["ID", "STATE", "FROM (UTC)", "UNTIL (UTC)", "BY", "MATCHERS", "COMMENT"].map(String::from);
    if silences.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(silences.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (text, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - text.chars().count() + 2);
            let shown = if column == 1 { painted(text, coloured) } else { text.clone() };
            line += &format!("{shown}{pad}");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Yellow while it holds, grey when it is over.
fn painted(state: &str, coloured: bool) -> String {
    match state {
        "active" if coloured => format!("\x1b[33m{state}\x1b[0m"),
        "expired" if coloured => format!("\x1b[90m{state}\x1b[0m"),
        _ => state.to_owned(),
    }
}

fn moment(text: &str) -> Result<Timestamp> {
    let zoned = text.parse::<jiff::Timestamp>();
    let moment = zoned.map_err(|_| anyhow!("{text:?} is no moment; write 2026-12-24T18:00:00Z"))?;
    Ok(Timestamp::from_micros(moment.as_microsecond()))
}

fn user() -> Option<String> {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_print_in_columns() {
        let silence = json!({
            "id": "0000", "status": {"state": "active"}, "startsAt": "2026-11-21T07:00:00.000Z",
            "endsAt": "2026-11-21T09:00:00.000Z", "createdBy": "me", "comment": "because",
            "matchers": [{"name": "a", "value": "b|c", "isRegex": true}, {"name": "d", "value": "", "isEqual": false}],
        });
        let expected = "\
ID    STATE   FROM (UTC)        UNTIL (UTC)       BY  MATCHERS        COMMENT
0000  active  2026-11-21 07:00  2026-11-21 09:00  me  a=~\"b|c\" d!=\"\"  because
";
        assert_eq!(table(&[&silence], false), expected);
        assert!(table(&[&silence], true).contains("\x1b[33mactive\x1b[0m  2026"));
        assert_eq!(table(&[], false), "");
    }
}
