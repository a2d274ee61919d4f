//! `redis:` of a source.

use super::broker::{Wrong, authority, decode};
use super::tls::tls;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    RedisAccess, RedisAddress, RedisConfig, RedisInput, RedisServers, RedisStreams, Scope, SecretSource, TlsConfig,
    Transport,
};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};

/// The schemes of addresses.
pub(super) const SCHEMES: &[&str] = &["redis", "rediss", "redis+unix", "valkey", "valkeys", "valkey+unix"];
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const GROUP: &str = "sidewatch";
const CLAIM_IDLE_MS: i64 = 60_000;
/// Streams, channels or patterns of one source.
const NAMES: usize = 1_000;
/// Databases that a server can have.
const DATABASES: i64 = 1 << 20;

/// `redis: URL` or `redis: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        return of_url(&reader::string(node, "redis", found)?, found);
    }
    let mut map = MapReader::new(node, "redis source", found)?;
    let access = access(&mut map);
    let input = input(&mut map);
    map.finish();
    Some(Transport::Redis(Box::new(RedisConfig { access: access?, input: input?, instance: String::new() })))
}

/// The keys that say how the servers are reached.
pub(in crate::config::read) fn access(map: &mut MapReader<'_, '_>) -> Option<RedisAccess> {
    let servers = servers(map);
    let username = map.string("username");
    let password = map.secret("password", "password_file");
    let database = map.integer("database", 0..=DATABASES);
    let tls = tls(map);
    let (servers, first) = servers.unzip();
    let first = first.unwrap_or_default();
    if let Some(span) = username.as_ref().map(|name| &name.span).filter(|_| first.username.is_some()) {
        map.found().error(span, "username: one stands in the address already");
    }
    if first.password.is_some() && password.is_some() {
        let span = map.span().clone();
        map.found().error(&span, "password: one stands in the address already");
    }
    if let Some(database) = database.as_ref().filter(|_| first.database.is_some()) {
        map.found().error(&database.span, "database: one stands in the address already");
    }
    let number = first.database.or(database.as_ref().map(|number| number.value)).unwrap_or(0);
    if matches!(servers, Some(RedisServers::Cluster(_))) && number != 0 {
        let span = map.span().clone();
        map.found().error(&span, "database: a cluster has only the database 0");
    }
    let username_span = username.as_ref().map(|name| name.span.clone());
    let access = RedisAccess {
        servers: servers?,
        username: first.username.or(username.map(|name| name.value)),
        password: first.password.or(password),
        database: number,
        tls: tls.or_else(|| first.tls.then(TlsConfig::default)),
    };
    if let (Some(span), None) = (username_span, &access.password) {
        map.found().error(&span, "username: password or password_file is missing");
    }
    Some(access)
}

/// `redis://HOST:PORT/DATABASE?streams=a,b&group=g`, or `?channels=a,b`, `?patterns=a.*`.
pub(super) fn of_url(url: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let (address, query) = url.value.split_once('?').unwrap_or((&url.value, ""));
    let parts = parts(&Spanned::new(address.to_owned(), url.span.clone()), PORT, found)?;
    let (mut streams, mut channels, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
    let mut database = parts.database;
    let mut options = RedisStreams {
        names: Vec::new(),
        group: GROUP.into(),
        consumer: None,
        scope: None,
        from_end: false,
        claim_idle_ms: CLAIM_IDLE_MS,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = decode(value) else {
            found.error(&url.span, format!("{pair:?} is not percent-encoded UTF-8"));
            return None;
        };
        let names = || {
            let names = value.split(',').filter(|name| !name.is_empty());
            names.map(|name| Spanned::new(name.to_owned(), url.span.clone())).collect::<Vec<_>>()
        };
        let mut refuse = |message: String| found.error(&url.span, message);
        match key {
            "streams" | "stream" => streams.extend(names()),
            "channels" | "channel" => channels.extend(names()),
            "patterns" | "pattern" => patterns.extend(names()),
            "group" => options.group = value,
            "consumer" => options.consumer = Some(value),
            "scope" => match Scope::ALL.iter().find(|(name, _)| *name == value) {
                Some((_, scope)) => options.scope = Some(*scope),
                None => refuse(format!("scope: {value:?} is neither shared nor per_instance")),
            },
            "start" if value == "first" || value == "last" => options.from_end = value == "last",
            "start" => refuse(format!("start: {value:?} is neither first nor last")),
            "db" | "database" => match value.parse() {
                Ok(number) if (0..=DATABASES).contains(&number) => database = Some(number),
                _ => refuse(format!("database: {value:?} is no number of a database")),
            },
            _ => {
                let known = ["streams", "channels", "patterns", "group", "consumer", "scope", "start", "db"];
                let message = format!("{key:?} is no option of a redis address");
                match crate::config::diagnostic::nearest(key, known) {
                    Some(near) => found.error_hint(&url.span, message, format!("did you mean {near:?}?")),
                    None => found.error_hint(&url.span, message, format!("it has {}", reader::list(&known, "and"))),
                }
                return None;
            }
        }
    }
    let input = match (streams.is_empty(), channels.is_empty() && patterns.is_empty()) {
        (false, true) => RedisInput::Streams(RedisStreams { names: streams, ..options }),
        (true, false) => RedisInput::Channels { channels, patterns },
        _ => {
            found.error_hint(
                &url.span,
                "a redis source listens to streams, or to channels and patterns",
                format!("write {address}?streams=NAME,NAME&group=GROUP, or {address}?channels=NAME"),
            );
            return None;
        }
    };
    Some(Transport::Redis(Box::new(RedisConfig {
        access: RedisAccess {
            servers: RedisServers::One(parts.address),
            username: parts.login.username,
            password: parts.login.password,
            database: database.unwrap_or(0),
            tls: parts.login.tls.then(TlsConfig::default),
        },
        input,
        instance: String::new(),
    })))
}

/// What an address may say beside the place.
#[derive(Default)]
struct Login {
    username: Option<String>,
    password: Option<SecretSource>,
    database: Option<i64>,
    tls: bool,
}

struct Parts {
    address: RedisAddress,
    database: Option<i64>,
    login: Login,
}

fn servers(map: &mut MapReader<'_, '_>) -> Option<(RedisServers, Login)> {
    let single = map.string("url");
    let several = map.strings("urls");
    let cluster = map.boolean("cluster");
    let is_cluster = cluster.as_ref().is_some_and(|wanted| wanted.value);
    let sentinel = map.get("sentinel");
    if let Some(node) = sentinel {
        let misplaced = single.iter().chain(&several).map(|url| &url.span).chain(cluster.iter().map(|it| &it.span));
        for span in misplaced {
            map.found()
                .error(span, "with sentinel, the servers' addresses are asked for: only sentinel.urls are needed");
        }
        return sentinels(node, map.found());
    }
    if let (Some(_), Some(url)) = (&single, several.first()) {
        map.found().error(&url.span, "at most one of url and urls may be set");
    }
    if let (Some(url), false) = (several.get(1), is_cluster) {
        let message = "urls: several addresses are those of a cluster's nodes";
        map.found().error_hint(&url.span, message, "write cluster: true beside them, or sentinel: {master, urls}");
    }
    let written: Vec<&Spanned<String>> = single.iter().chain(&several).collect();
    if written.is_empty() {
        let span = map.span().clone();
        let message = format!("{}: one of \"url\", \"urls\" and \"sentinel\" is needed, found none", map.what());
        map.found().error_hint(&span, message, "write {redis: {url: \"redis://127.0.0.1:6379\", streams: [NAME]}}");
        return None;
    }
    let mut read = written.into_iter().filter_map(|url| parts(url, PORT, map.found())).collect::<Vec<_>>();
    if read.is_empty() {
        return None;
    }
    let first = read.remove(0);
    let login = Login { database: first.database, ..first.login };
    Some(match is_cluster {
        true => {
            let rest = read.into_iter().map(|parts| parts.address);
            (RedisServers::Cluster(std::iter::once(first.address).chain(rest).collect()), login)
        }
        false => (RedisServers::One(first.address), login),
    })
}

fn sentinels(node: &Node, found: &mut Diagnostics) -> Option<(RedisServers, Login)> {
    let mut map = MapReader::new(node, "redis sentinel", found)?;
    let master = map.required_string("master");
    map.required("urls");
    let urls = map.strings("urls");
    let mut read = urls.iter().filter_map(|url| parts(url, SENTINEL_PORT, map.found())).collect::<Vec<_>>();
    let username = map.string("username").map(|name| name.value);
    let password = map.secret("password", "password_file");
    map.finish();
    let login = read.first_mut().map(|parts| std::mem::take(&mut parts.login))?;
    let servers = RedisServers::Sentinel {
        master: master?.value,
        urls: read.into_iter().map(|parts| parts.address).collect(),
        username: login.username.or(username),
        password: login.password.or(password),
    };
    Some((servers, Login { tls: login.tls, ..Login::default() }))
}

fn input(map: &mut MapReader<'_, '_>) -> Option<RedisInput> {
    let (streams, channels, patterns) = (map.strings("streams"), map.strings("channels"), map.strings("patterns"));
    let group = map.string("group");
    let consumer = map.string("consumer");
    let scope = map.one_of("scope", &Scope::ALL);
    let start = map.one_of("start", &[("first", false), ("last", true)]);
    let claim_idle = map.duration_ms("claim_idle");
    let all: Vec<&Spanned<String>> = streams.iter().chain(&channels).chain(&patterns).collect();
    if let Some(far) = all.get(NAMES) {
        map.found().error(&far.span, format!("at most {NAMES} streams, channels and patterns of one source"));
    }
    for (at, name) in all.iter().enumerate() {
        if name.value.is_empty() {
            map.found().error(&name.span, "a name is missing");
        } else if all[..at].iter().any(|other| other.value == name.value) {
            map.found().error(&name.span, format!("{:?} stands there twice", name.value));
        }
    }
    let span = map.span().clone();
    match (streams.first(), channels.first().or(patterns.first())) {
        (Some(_), None) => Some(RedisInput::Streams(RedisStreams {
            names: streams,
            group: group.map_or_else(|| GROUP.into(), |group| group.value),
            consumer: consumer.map(|consumer| consumer.value),
            scope: scope.map(|scope| scope.value),
            from_end: start.is_some_and(|start| start.value),
            claim_idle_ms: claim_idle.map_or(CLAIM_IDLE_MS, |time| time.value),
        })),
        (None, Some(_)) => {
            let spans = [
                ("group", group.map(|it| it.span)),
                ("consumer", consumer.map(|it| it.span)),
                ("scope", scope.map(|it| it.span)),
                ("start", start.map(|it| it.span)),
                ("claim_idle", claim_idle.map(|it| it.span)),
            ];
            for (key, span) in spans {
                if let Some(span) = span {
                    map.found()
                        .error(&span, format!("{key} belongs to streams; every subscriber of a channel hears it"));
                }
            }
            Some(RedisInput::Channels { channels, patterns })
        }
        (Some(_), Some(channel)) => {
            let message = "streams and channels are two sources: they promise different things";
            map.found().error_hint(&channel.span, message, "write a second source with channels or patterns");
            None
        }
        (None, None) => {
            let message = "redis source: one of \"streams\", \"channels\" and \"patterns\" is needed, found none";
            map.found().error_hint(
                &span,
                message,
                "write streams: [NAME] (at least once) or channels: [NAME] (at most once)",
            );
            None
        }
    }
}

/// `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, or `redis+unix:///PATH`.
fn parts(url: &Spanned<String>, port: u16, found: &mut Diagnostics) -> Option<Parts> {
    // What is wrong with it is said without the address: it may hold a password.
    let mut wrong = |message: &str| {
        found.error_hint(&url.span, message, "write redis://HOST:PORT, rediss://HOST:PORT (TLS) or redis+unix:///PATH");
        None
    };
    let Some((scheme, rest)) = url.value.split_once("://") else {
        return wrong("not the address of a Redis server");
    };
    if !SCHEMES.contains(&scheme) {
        return wrong(&format!("{scheme:?} is no scheme of a Redis server"));
    }
    let unix = scheme.ends_with("+unix");
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut database = None;
    if !query.is_empty() {
        match query.strip_prefix("db=").and_then(|number| number.parse().ok()) {
            Some(number) => database = Some(number),
            None => return wrong("what stands behind the question mark belongs beside url, as keys of its own"),
        }
    }
    if unix {
        if !rest.starts_with('/') {
            return wrong("the path of a socket begins with a slash");
        }
        let login = Login::default();
        return Some(Parts { address: RedisAddress::Unix { path: rest.into() }, database, login });
    }
    // Behind the @, which a password may follow with a slash in it.
    let slash = rest.rfind('@').map_or(0, |at| at + 1);
    let (place, path) = rest[slash..].find('/').map_or((rest, ""), |at| (&rest[..slash + at], &rest[slash + at + 1..]));
    if !path.is_empty() {
        match path.parse() {
            Ok(number) if (0..=DATABASES).contains(&number) => database = Some(number),
            _ => return wrong(&format!("{path:?} is no number of a database")),
        }
    }
    let place = match authority(place) {
        Ok(place) => place,
        Err(Wrong::Port) => return wrong("the port is no number up to 65535"),
        Err(reason) => return wrong(&reason.to_string()),
    };
    let password = place.password.filter(|word| !word.is_empty());
    let login = Login {
        username: place.username.filter(|name| !name.is_empty()),
        password: password.map(|word| SecretSource::Inline(Spanned::new(word, url.span.clone()))),
        database: None,
        tls: matches!(scheme, "rediss" | "valkeys"),
    };
    let address = RedisAddress::Tcp { host: place.host, port: place.port.unwrap_or(port) };
    Some(Parts { address, database, login })
}

#[cfg(test)]
mod tests {
    use crate::config::read::sources::checked::check;
    use crate::config::{Overrides, load_text, show};

    #[test]
    fn mistakes_are_said_with_what_to_do() {
        check(
            "{redis: {streams: a}}",
            &["redis source: one of \"url\", \"urls\" and \"sentinel\" is needed, found none"],
        );
        let none = "redis source: one of \"streams\", \"channels\" and \"patterns\" is needed, found none";
        check("{redis: {url: 'redis://h'}}", &[none]);
        let two = "streams and channels are two sources: they promise different things";
        check("{redis: {url: 'redis://h', streams: a, channels: b}}", &[two]);
        let group = "group belongs to streams; every subscriber of a channel hears it";
        check("{redis: {url: 'redis://h', channels: b, group: g}}", &[group]);
        check("{redis: {url: 'redis://h', streams: [a, a]}}", &["\"a\" stands there twice"]);
        check("{redis: {url: 'redis://h', streams: a, consumr: c}}", &["redis source: unknown key \"consumr\""]);
        check("{redis: {url: 'http://h', streams: a}}", &["\"http\" is no scheme of a Redis server"]);
        check("{redis: {url: 'h:6379', streams: a}}", &["not the address of a Redis server"]);
        check("{redis: {url: 'redis://', streams: a}}", &["the host is missing"]);
        check("{redis: {url: 'redis://h:x', streams: a}}", &["the port is no number up to 65535"]);
        check("{redis: {url: 'redis://:50%@h', streams: a}}", &["the password is not percent-encoded UTF-8"]);
        check("'redis://h?streams=50%'", &["\"streams=50%\" is not percent-encoded UTF-8"]);
        let missing = "username: password or password_file is missing";
        check("{redis: {url: 'redis://h', username: u, streams: a}}", &[missing]);
        check("{redis: {url: 'redis://h/x', streams: a}}", &["\"x\" is no number of a database"]);
        check("{redis: {url: 'redis+unix://h', streams: a}}", &["the path of a socket begins with a slash"]);
        let twice = "password: one stands in the address already";
        check("{redis: {url: 'redis://u:p@h', password: q, streams: a}}", &[twice]);
        let both = "at most one of password and password_file may be set";
        check("{redis: {url: 'redis://h', password: q, password_file: f, streams: a}}", &[both]);
        let nodes = "urls: several addresses are those of a cluster's nodes";
        check("{redis: {urls: ['redis://a', 'redis://b'], streams: a}}", &[nodes]);
        let database = "database: a cluster has only the database 0";
        check("{redis: {url: 'redis://a/1', cluster: true, streams: a}}", &[database]);
        let sentinel = "with sentinel, the servers' addresses are asked for: only sentinel.urls are needed";
        check("{redis: {url: 'redis://a', sentinel: {master: m, urls: 'redis://s'}, streams: a}}", &[sentinel]);
        check("'redis://h'", &["a redis source listens to streams, or to channels and patterns"]);
        check("'redis://h?stream=a&group=g&strt=last'", &["\"strt\" is no option of a redis address"]);
    }

    #[test]
    fn what_is_shown_reads_back_and_shows_no_password() {
        let text = "service: {name: n, instance: i}\nsources:\n\
            \x20 a: 'redis://me:pass%40word@[::1]:7/2?streams=a,b&group=g&scope=per_instance&start=last'\n\
            \x20 b: {redis: 'valkeys://h?channels=c'}\n\
            \x20 c: {redis: {urls: ['redis://a', 'redis://b:2'], cluster: true, streams: s, consumer: x, claim_idle: 5s}}\n\
            \x20 d: {redis: {sentinel: {master: m, urls: ['redis://s', 'redis://t:1'], password: hidden}, database: 3, streams: s, tls: {ca_file: c}}}\n\
            \x20 e: {redis: {url: 'redis+unix:///run/redis.sock?db=4', patterns: ['a.*'], username: u, password_file: f}}\n";
        let load = |text: &str| {
            let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
            show(&config.unwrap_or_else(|| panic!("{found}\n{text}")))
        };
        let shown = load(text);
        assert_eq!(load(&shown), shown);
        assert!(!shown.contains("pass@word") && !shown.contains("hidden"), "{shown}");
        for expected in [
            "redis://[::1]:7",
            "scope: per_instance",
            "claim_idle: 5s",
            "redis://s:26379",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
        }
    }
}
