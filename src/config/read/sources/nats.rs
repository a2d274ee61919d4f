//! `nats:` of a source.

use super::broker::{Wrong, authority, decode};
use super::tls::tls;
use crate::config::reader::{self, MapReader};
use crate::config::schema::{
    NatsConfig, NatsCredentials, NatsServers, NatsStream, NatsUrl, Scope, SecretSource, Transport,
};
use crate::config::yaml::{Kind, Node};
use crate::config::{Diagnostics, Spanned};
use crate::secret::Secret;

/// What is not acknowledged for so long is delivered again.
const ACK_WAIT_MS: i64 = 5_000;
/// Below this a checkpoint could not be in time.
const SHORTEST_ACK_WAIT_MS: i64 = 100;
/// Messages without acknowledgement: enough that a checkpoint each few milliseconds does not slow the stream down.
const MAX_ACK_PENDING: i64 = 20_000;
const PORT: u16 = 4222;
const SERVERS: usize = 100;
const SUBJECTS: usize = 100;
const BACKOFFS: usize = 100;

/// `nats: URL` or `nats: {...}`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Transport> {
    if matches!(node.kind, Kind::Scalar { .. }) && !node.is_null() {
        let url = reader::string(node, "nats", found)?;
        return of_url(&url, found);
    }
    let mut map = MapReader::new(node, "nats source", found)?;
    let span = map.span().clone();
    let (servers, mut subjects) = servers(&mut map);
    let given = map.strings("subjects");
    if let (Some(second), Some(_)) = (given.first(), subjects.first()) {
        map.found().error(&second.span, "at most one of subjects and a path of the url may name subjects");
    }
    subjects.extend(given);
    check_subjects(&subjects, map.found());
    let queue_group = map.string("queue_group");
    if let Some(group) = queue_group.as_ref().filter(|group| !is_token(&group.value)) {
        map.found().error(&group.span, "queue_group: a name without spaces is needed");
    }
    let stream = stream(&mut map, queue_group.as_ref());
    let scope = map.one_of("scope", &Scope::ALL);
    if stream.is_none()
        && let Some(scope) = &scope
    {
        match (scope.value, &queue_group) {
            (Scope::Shared, None) => map.found().error_hint(
                &scope.span,
                "scope: shared needs a queue_group: without one every sidecar hears every message",
                "write queue_group: sidewatch",
            ),
            (Scope::PerInstance, Some(group)) => map
                .found()
                .error(&group.span, "queue_group: its members share the messages, which scope: per_instance forbids"),
            _ => {}
        }
    }
    let no_subjects = subjects.is_empty() && map.raw("stream").is_none();
    map.finish();
    let servers = servers?;
    if no_subjects {
        found.error_hint(
            &span,
            "nats source: subjects or stream is missing",
            "write subjects: [\"order.>\"], or stream: NAME with durable: NAME for JetStream",
        );
        return None;
    }
    let scope = scope.map(|scope| scope.value);
    Some(Transport::Nats(Box::new(NatsConfig { servers, subjects, queue_group, stream, scope })))
}

/// `nats://HOST:4222/order.>`.
pub(super) fn of_url(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Transport> {
    let url = url(text, found)?;
    let Some(subject) = url.subject else {
        found.error_hint(
            &text.span,
            format!("{}: the subject is missing", url.server),
            format!("write {}/order.>, or nats: {{url: ..., subjects: [...]}}", url.server),
        );
        return None;
    };
    let subjects = vec![Spanned::new(subject, text.span.clone())];
    check_subjects(&subjects, found).then(|| {
        Transport::Nats(Box::new(NatsConfig {
            servers: NatsServers {
                urls: vec![url.server],
                credentials: url.credentials,
                tls: None,
                inbox_prefix: None,
            },
            subjects,
            queue_group: None,
            stream: None,
            scope: None,
        }))
    })
}

/// The keys that say how the servers are reached; beside them the subjects that the addresses name.
pub(in crate::config::read) fn servers(map: &mut MapReader<'_, '_>) -> (Option<NatsServers>, Vec<Spanned<String>>) {
    let mut credentials = Vec::new();
    let (urls, subjects) = urls(map, &mut credentials);
    credentials.extend(given_credentials(map));
    let tls = tls(map);
    let inbox_prefix = map.string("inbox_prefix");
    if let Some(prefix) = inbox_prefix.as_ref().filter(|prefix| !is_subject(&prefix.value, false)) {
        map.found().error(&prefix.span, "inbox_prefix: a subject without wildcards is needed");
    }
    if let [_, second, ..] = credentials.as_slice() {
        let message = "at most one of user, token, nkey_file and creds_file (or a user in the url) may be set";
        map.found().error(&second.0, message);
        return (None, subjects);
    }
    let credentials = credentials.pop().map(|(_, credentials)| credentials);
    ((!urls.is_empty()).then_some(NatsServers { urls, credentials, tls, inbox_prefix }), subjects)
}

type Found = (crate::config::Span, NatsCredentials);

fn urls(map: &mut MapReader<'_, '_>, credentials: &mut Vec<Found>) -> (Vec<NatsUrl>, Vec<Spanned<String>>) {
    let one = map.string("url");
    let many = map.strings("urls");
    match (&one, many.first()) {
        (None, None) => {
            let span = map.span().clone();
            let message = format!("{}: one of \"url\" and \"urls\" is needed, found none", map.what());
            map.found().error_hint(&span, message, "write url: nats://127.0.0.1:4222");
        }
        (Some(_), Some(second)) => map.found().error(&second.span, "at most one of url and urls may be set"),
        _ => {}
    }
    if let Some(far) = many.get(SERVERS) {
        map.found().error(&far.span, format!("urls: at most {SERVERS}"));
    }
    let (mut servers, mut subjects) = (Vec::new(), Vec::new());
    for text in one.iter().chain(&many) {
        let Some(url) = url(text, map.found()) else { continue };
        servers.push(url.server);
        subjects.extend(url.subject.map(|subject| Spanned::new(subject, text.span.clone())));
        if let Some(own) = url.credentials
            && credentials.iter().all(|(_, known)| *known != own)
        {
            credentials.push((text.span.clone(), own));
        }
    }
    subjects.dedup_by(|a, b| a.value == b.value);
    (servers, subjects)
}

struct Url {
    server: NatsUrl,
    subject: Option<String>,
    credentials: Option<NatsCredentials>,
}

/// `nats://[USER[:PASSWORD]@]HOST[:PORT][/SUBJECT]`; a user without a password is a token, as everywhere in NATS.
fn url(text: &Spanned<String>, found: &mut Diagnostics) -> Option<Url> {
    let (scheme, rest) = text.value.split_once("://").unwrap_or(("nats", &text.value));
    if scheme != "nats" && scheme != "tls" {
        found.error_hint(
            &text.span,
            format!("{scheme:?} is no scheme of a NATS server"),
            "write nats://HOST:4222, or tls://HOST:4222 to insist on TLS",
        );
        return None;
    }
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The address may hold a password: only its place is shown.
    let mut wrong = |message: &str| {
        found.error_hint(&text.span, message, "write nats://HOST:4222");
        None
    };
    let place = match authority(place) {
        Ok(place) if is_host(&place.host) => place,
        Err(reason @ (Wrong::User | Wrong::Password)) => return wrong(&format!("url: {reason}")),
        _ => return wrong("this is no address of a NATS server"),
    };
    let Some(subject) = decode(path) else { return wrong("url: the subject is not percent-encoded UTF-8") };
    let secret = |secret| SecretSource::Inline(Spanned::new(secret, text.span.clone()));
    let credentials = place.username.filter(|user| !user.is_empty()).map(|user| match place.password {
        Some(password) => NatsCredentials::User(user, secret(password)),
        None => NatsCredentials::Token(secret(Secret::new(user))),
    });
    let server = NatsUrl { tls: scheme == "tls", host: place.host, port: place.port.unwrap_or(PORT) };
    Some(Url { server, subject: Some(subject).filter(|subject| !subject.is_empty()), credentials })
}

/// Letters that a name or an address may hold, IPv6 included.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
}

/// No empty token, no space, `>` only at the end.
pub(in crate::config::read) fn is_subject(text: &str, wildcards: bool) -> bool {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let wild = matches!(token, "*" | ">");
        let bad = token.is_empty() || token.chars().any(|c| c.is_whitespace() || c.is_control());
        if bad || (wild && !wildcards) || (token == ">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// A name of one token.
fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Whether everything that `narrow` matches, `wide` matches too.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('.');
    for token in wide.split('.') {
        match (token, narrow.next()) {
            (">", Some(_)) => return true,
            (_, None | Some(">")) => return false,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

/// Whether some subject matches both.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn check_subjects(subjects: &[Spanned<String>], found: &mut Diagnostics) -> bool {
    let mut valid = true;
    if let Some(far) = subjects.get(SUBJECTS) {
        found.error(&far.span, format!("subjects: at most {SUBJECTS}"));
        valid = false;
    }
    for (at, subject) in subjects.iter().enumerate() {
        if !is_subject(&subject.value, true) {
            found.error_hint(
                &subject.span,
                format!("subjects: {:?} is no subject", subject.value),
                "write order.placed, order.* (one token) or order.> (the rest)",
            );
            valid = false;
        } else if let Some(other) = subjects[..at].iter().find(|other| overlap(&other.value, &subject.value)) {
            // The server would deliver such a message twice, or refuse the consumer.
            let how = match covers(&other.value, &subject.value) {
                true => "is covered by",
                false => "overlaps with",
            };
            let message = format!("subjects: {:?} {how} {:?}", subject.value, other.value);
            found.error_hint(&subject.span, message, "a message must match one of them only");
            valid = false;
        }
    }
    valid
}

/// `stream:` with what belongs to it.
fn stream(map: &mut MapReader<'_, '_>, queue_group: Option<&Spanned<String>>) -> Option<NatsStream> {
    let name = map.string("stream");
    let durable = map.string("durable");
    let domain = map.string("domain");
    let ack_wait = map.duration_ms("ack_wait");
    let max_deliver = map.integer("max_deliver", 1..=i64::from(u32::MAX));
    let backoff = map.each_or_one("backoff", |node, found| reader::duration_ms(node, "backoff", found));
    let max_ack_pending = map.integer("max_ack_pending", 1..=1_000_000);
    let start = map.one_of("start", &[("first", false), ("last", true)]);
    let Some(name) = name else {
        let spans = [
            durable.as_ref().map(|it| ("durable", &it.span)),
            domain.as_ref().map(|it| ("domain", &it.span)),
            ack_wait.as_ref().map(|it| ("ack_wait", &it.span)),
            max_deliver.as_ref().map(|it| ("max_deliver", &it.span)),
            backoff.first().map(|it| ("backoff", &it.span)),
            max_ack_pending.as_ref().map(|it| ("max_ack_pending", &it.span)),
            start.as_ref().map(|it| ("start", &it.span)),
        ];
        for (key, span) in spans.into_iter().flatten() {
            map.found().error_hint(span, format!("{key} belongs to JetStream"), "write stream: NAME as well");
        }
        return None;
    };
    if let Some(group) = queue_group {
        let message = "queue_group belongs to core NATS; sidecars share a stream by sharing its durable";
        map.found().error_hint(&group.span, message, "write scope: shared and the same durable for all of them");
    }
    for (key, text) in [("stream", Some(&name)), ("durable", durable.as_ref()), ("domain", domain.as_ref())] {
        let Some(text) = text else { continue };
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
        if text.value.is_empty() || text.value.contains(bad) {
            let message = format!("{key}: {:?} is no name for NATS: no space, dot, *, > or slash", text.value);
            let tame: String = text.value.chars().map(|c| if bad(c) { '-' } else { c }).collect();
            map.found().error_hint(&text.span, message, format!("write {tame}"));
        }
    }
    if let Some(short) = ack_wait.as_ref().filter(|wait| wait.value < SHORTEST_ACK_WAIT_MS) {
        map.found().error(&short.span, format!("ack_wait: at least {SHORTEST_ACK_WAIT_MS}ms"));
    }
    if let Some(short) = backoff.iter().find(|wait| wait.value < SHORTEST_ACK_WAIT_MS) {
        map.found().error(&short.span, format!("backoff: at least {SHORTEST_ACK_WAIT_MS}ms"));
    }
    if let Some(far) = backoff.get(BACKOFFS) {
        map.found().error(&far.span, format!("backoff: at most {BACKOFFS}"));
    }
    if let (Some(max), Some(first)) = (&max_deliver, backoff.first())
        && max.value <= backoff.len() as i64
    {
        let message = format!("max_deliver: it must be more than the {} waits of backoff", backoff.len());
        map.found().error_hint(&first.span, message, format!("write max_deliver: {}", backoff.len() + 1));
    }
    let Some(durable) = durable else {
        map.found().error_hint(
            &name.span,
            "nats source: a stream needs durable, the name under which the server remembers what was acknowledged",
            "write durable: \"sidewatch-${POD_NAME}\" for one of its own, or durable: sidewatch to share it",
        );
        return None;
    };
    Some(NatsStream {
        name,
        durable,
        domain,
        ack_wait_ms: ack_wait.map_or(ACK_WAIT_MS, |wait| wait.value),
        max_deliver: max_deliver.map(|max| max.value),
        backoff_ms: backoff.into_iter().map(|wait| wait.value).collect(),
        max_ack_pending: max_ack_pending.map_or(MAX_ACK_PENDING, |max| max.value),
        from_end: start.is_some_and(|start| start.value),
    })
}

fn given_credentials(map: &mut MapReader<'_, '_>) -> Vec<Found> {
    let mut all = Vec::new();
    let user = map.string("user");
    let password = map.secret("password", "password_file");
    match (user, password) {
        (Some(user), Some(password)) => all.push((user.span, NatsCredentials::User(user.value, password))),
        (Some(user), None) => map.found().error(&user.span, "user: password or password_file is missing"),
        (None, Some(password)) => map.found().error(password.span(), "password: user is missing"),
        (None, None) => {}
    }
    all.extend(map.secret("token", "token_file").map(|token| (token.span().clone(), NatsCredentials::Token(token))));
    all.extend(map.string("nkey_file").map(|path| (path.span.clone(), NatsCredentials::Nkey(path))));
    all.extend(map.string("creds_file").map(|path| (path.span.clone(), NatsCredentials::Creds(path))));
    all
}

#[cfg(test)]
mod tests {
    use super::{covers, overlap};
    use crate::config::read::sources::checked::check;
    use crate::config::{Overrides, load_text, show};

    #[test]
    fn mistakes_are_said_with_what_to_do() {
        check("{nats: {}}", &["nats source: one of \"url\" and \"urls\" is needed, found none"]);
        check("'nats://h:4222'", &["nats://h:4222: the subject is missing"]);
        check("{nats: {url: 'nats://h'}}", &["nats source: subjects or stream is missing"]);
        check("{nats: {url: 'redis://h', subjects: a}}", &["\"redis\" is no scheme of a NATS server"]);
        check("{nats: {url: 'nats://h:99999', subjects: a}}", &["this is no address of a NATS server"]);
        check("{nats: {url: 'nats://u:50%@h', subjects: a}}", &["url: the password is not percent-encoded UTF-8"]);
        check("'nats://h/50%'", &["url: the subject is not percent-encoded UTF-8"]);
        check(
            "{nats: {url: h, subjects: [a..b, 'a.>.b']}}",
            &["subjects: \"a..b\" is no subject", "subjects: \"a.>.b\" is no subject"],
        );
        check(
            "{nats: {url: h, subjects: ['order.>', order.placed, '*.placed']}}",
            &[
                "subjects: \"order.placed\" is covered by \"order.>\"",
                "subjects: \"*.placed\" overlaps with \"order.>\"",
            ],
        );
        check(
            "{nats: {url: h, stream: E}}",
            &["nats source: a stream needs durable, the name under which the server remembers what was acknowledged"],
        );
        check(
            "{nats: {url: h, stream: E, durable: a.b}}",
            &["durable: \"a.b\" is no name for NATS: no space, dot, *, > or slash"],
        );
        check(
            "{nats: {url: h, subjects: a, durable: d, start: last}}",
            &["durable belongs to JetStream", "start belongs to JetStream"],
        );
        check(
            "{nats: {url: h, stream: E, durable: d, queue_group: g}}",
            &["queue_group belongs to core NATS; sidecars share a stream by sharing its durable"],
        );
        check(
            "{nats: {url: h, stream: E, durable: d, max_deliver: 2, backoff: [1s, 2s]}}",
            &["max_deliver: it must be more than the 2 waits of backoff"],
        );
        check(
            "{nats: {url: h, subjects: a, scope: shared}}",
            &["scope: shared needs a queue_group: without one every sidecar hears every message"],
        );
        check(
            "{nats: {url: h, subjects: a, scope: per_instance, queue_group: g}}",
            &["queue_group: its members share the messages, which scope: per_instance forbids"],
        );
        check(
            "{nats: {url: 'nats://u:p@h', subjects: a, token: t}}",
            &["at most one of user, token, nkey_file and creds_file (or a user in the url) may be set"],
        );
        check("{nats: {url: h, subjects: a, user: u}}", &["user: password or password_file is missing"]);
        check("{nats: {url: h, subjects: a, tls: {cert_file: c}}}", &["tls: cert_file and key_file belong together"]);
        check("{nats: {url: h, subjects: a, queue_grp: g}}", &["nats source: unknown key \"queue_grp\""]);
    }

    #[test]
    fn what_is_shown_reads_back_and_hides_secrets() {
        let text = "sources:\n  a: {nats: {url: 'nats://me:s3cret@bus:4222/order.>', queue_group: g, scope: shared}}\n  \
                    b: {nats: {urls: [bus1, 'tls://[::1]:4223'], stream: E, durable: d, subjects: [a.b, 'c.*'], ack_wait: 2s, \
                    max_deliver: 5, backoff: [1s, 2s], max_ack_pending: 50, start: last, scope: per_instance, domain: hub, \
                    creds_file: /run/c, tls: {ca_file: ca.pem}, inbox_prefix: _IN}}\n  c: 'tls://bus/x.y'\n";
        let (config, found) = load_text("t.yaml", text, &Default::default(), &Overrides::default());
        assert!(!found.has_errors(), "{found}");
        let shown = show(&config.unwrap());
        assert!(!shown.contains("s3cret") && shown.contains("<secret>"), "{shown}");
        for expected in
            ["nats://bus:4222", "tls://[::1]:4223", "order.>", "max_deliver: 5", "start: last", "ack_wait: 2s", "_IN"]
        {
            assert!(shown.contains(expected), "{expected}\n{shown}");
        }
        let readable = shown.replace("<secret>", "s3cret");
        let (again, found) = load_text("t.yaml", &readable, &Default::default(), &Overrides::default());
        assert!(!found.has_errors(), "{found}\n{shown}");
        assert_eq!(show(&again.unwrap()), shown);
    }

    #[test]
    fn subjects_are_compared_by_their_tokens() {
        assert!(covers("order.>", "order.a.b") && covers("*.a", "x.a") && !covers("order.>", "order"));
        assert!(!covers("a.*", "a.>") && covers("a.>", "a.*"));
        assert!(overlap("a.*", "*.b") && overlap("a.>", "a.b.c") && !overlap("a.b", "a.b.c") && !overlap("a.*", "b.*"));
    }
}
