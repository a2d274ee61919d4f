//! TLS, passwords, tokens, nkeys and JWTs, and what a server says to the wrong ones.

use super::broker::Broker;
use super::{order, start};
use crate::harness::certificates;
use async_nats::ConnectOptions;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// What an nkey is for, as the first bits of its text say.
#[derive(Clone, Copy)]
enum Role {
    Operator = 14 << 3,
    Account = 0,
    User = 20 << 3,
}

/// An ed25519 key in the texts of NATS (github.com/nats-io/nkeys).
struct Nkey {
    pair: Ed25519KeyPair,
    seed: String,
    public: String,
}

impl Nkey {
    fn new(role: Role, bytes: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&bytes).unwrap();
        let role = role as u8;
        let seed = encode(&[&[(18 << 3) | (role >> 5), (role & 31) << 3], &bytes[..]].concat());
        let public = encode(&[&[role], pair.public_key().as_ref()].concat());
        Self { pair, seed, public }
    }

    /// A JWT about `subject`, signed by this key.
    fn jwt(&self, subject: &str, name: &str, nats: Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims =
            json!({"jti": name, "iat": 1_700_000_000, "iss": self.public, "sub": subject, "name": name, "nats": nats});
        let text = format!("{}.{}", part(json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
        let signature = self.pair.sign(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Base 32 (RFC 4648, section 6) without padding, with a CRC-16 (XMODEM) at the end.
fn encode(bytes: &[u8]) -> String {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    let all = [bytes, &crc.to_le_bytes()].concat();
    let bit = |at: usize| all.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    let letters = (0..(all.len() * 8).div_ceil(5)).map(|letter| {
        let value = (0..5).fold(0, |value, at| (value << 1) | bit(letter * 5 + at));
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(value)])
    });
    letters.collect()
}

#[test]
fn tls_and_every_kind_of_credentials() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), &[("server", "DNS:bus.test,IP:127.0.0.1"), ("client", "DNS:side.test")]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let user = Nkey::new(Role::User, [7; 32]);
    let mut secure = Broker::absent(&format!(
        "tls: {{cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true}}\n\
         authorization: {{users: [{{user: me, password: right}}, {{nkey: {}}},\n\
         \x20 {{user: small, password: right, permissions: {{subscribe: [\"mine\", \"_INBOX.>\"]}}}}]}}\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
        user.public
    ));
    secure.run();
    let options = ConnectOptions::with_user_and_password("me".into(), "right".into())
        .require_tls(true)
        .add_root_certificates(dir.path().join("ca.pem"))
        .add_client_certificate(dir.path().join("client.pem"), dir.path().join("client.key"));
    secure.set_client(secure.connect(options));

    // An operator, its account and a user of it, in a server that knows only the operator.
    let (operator, account, member) =
        (Nkey::new(Role::Operator, [1; 32]), Nkey::new(Role::Account, [2; 32]), Nkey::new(Role::User, [3; 32]));
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
        "leaf": -1});
    let operator_jwt = operator.jwt(&operator.public, "op", json!({"type": "operator", "version": 2}));
    let account_jwt = operator.jwt(&account.public, "acc", json!({"limits": limits, "type": "account", "version": 2}));
    let member_jwt = account.jwt(
        &member.public,
        "member",
        json!({"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}, "type": "user", "version": 2}),
    );
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{member_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        member.seed
    );
    let mut operated = Broker::plain(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{{}: {account_jwt}}}\n",
        account.public
    ));
    operated.run();
    operated.set_client(operated.connect(ConnectOptions::with_credentials(&creds).unwrap()));
    let mut tokens = Broker::plain("authorization: {token: sesame}\n");
    tokens.run();
    tokens.set_client(tokens.connect(ConnectOptions::with_token("sesame".into())));

    for (name, text) in [
        ("password", "right\n"),
        ("token", "sesame\n"),
        ("creds", creds.as_str()),
        ("seed", &format!("# of the sidecar\n{}\n", user.seed)),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let tls = "ca_file: ca.pem, cert_file: client.pem, key_file: client.key";
    let (port, secure_url) = (secure.port, format!("tls://127.0.0.1:{}", secure.port));
    let sidewatch = start(
        dir.path(),
        &format!(
            "sources:\n  user: {{nats: {{url: '{secure_url}', subjects: mine, user: me, password_file: password, scope: per_instance, tls: {{{tls}, server_name: bus.test}}}}}}\n\
             \x20 in_url: {{nats: {{url: 'nats://me:right@127.0.0.1:{port}', subjects: mine, scope: per_instance, tls: {{{tls}}}}}}}\n\
             \x20 nkey: {{nats: {{url: '{secure_url}', subjects: mine, nkey_file: seed, scope: per_instance, tls: {{{tls}}}}}}}\n\
             \x20 small: {{nats: {{url: '{secure_url}', subjects: theirs, user: small, password_file: password, scope: per_instance, tls: {{{tls}}}}}}}\n\
             \x20 creds: {{nats: {{url: '{}', subjects: mine, creds_file: creds, scope: per_instance}}}}\n\
             \x20 token: {{nats: {{url: '{}', subjects: mine, token_file: token, scope: per_instance}}}}\n\
             \x20 other_name: {{nats: {{url: '{secure_url}', subjects: mine, user: me, password_file: password, scope: per_instance, tls: {{{tls}, server_name: other.test}}}}}}\n\
             \x20 strangers: {{nats: {{url: 'nats://127.0.0.1:{port}', subjects: mine, user: me, password_file: password, scope: per_instance}}}}\n\
             \x20 nobody: {{nats: {{url: '{secure_url}', subjects: mine, scope: per_instance, tls: {{{tls}}}}}}}\n\
             \x20 no_file: {{nats: {{url: '{}', subjects: mine, token_file: missing, scope: per_instance}}}}\n",
            operated.url(),
            tokens.url(),
            tokens.url(),
        ),
    );
    for source in ["user", "in_url", "nkey", "creds", "token"] {
        sidewatch.connected(source);
    }
    for broker in [&secure, &operated, &tokens] {
        broker.publish("mine", &order(1));
    }
    for source in ["user", "in_url", "nkey", "creds", "token"] {
        sidewatch.is(&format!("events_total{{source=\"{source}\"}}"), 1.0);
    }
    for (source, reason) in [
        ("small", "Permissions Violation for Subscription"),
        ("other_name", "not valid for name"),
        ("strangers", "UnknownIssuer"),
        ("nobody", "wants credentials"),
        ("no_file", "cannot read"),
    ] {
        let said = sidewatch.source_is(source, "lost", "");
        assert!(said.contains(reason), "{source}: {said}");
    }
    let log = sidewatch.err();
    assert!(!log.contains("sesame") && !log.contains(&user.seed) && !log.contains("right"), "{log}");
}
