//! One exchange with a mail server: greeting, STARTTLS, AUTH, the mail.

use super::{EmailConfig, Encryption, TIMEOUT, cram_md5, own_name};
use crate::notify::http;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, Identity, TlsParameters, TlsVersion as LettreTls,
};
use lettre::transport::smtp::extension::ClientId;

/// Why a mail did not go.
pub(super) enum Failure {
    /// The server or the connection said so.
    Smtp(Error),
    /// Something here or in what the server offers; it may be mended.
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// Sends a mail and gives what the server answered.
pub(super) async fn send(config: &EmailConfig, mail: &Message) -> Result<String, Failure> {
    let hello = ClientId::Domain(config.hello.clone().unwrap_or_else(own_name));
    let at_once = config.encryption == Encryption::AtOnce;
    let tls = if at_once { Some(tls_parameters(config)?) } else { None };
    let server = (config.host.as_str(), config.port);
    let mut connection = AsyncSmtpConnection::connect_tokio1(server, Some(TIMEOUT), &hello, tls, None).await?;
    if !at_once {
        if connection.can_starttls() {
            connection.starttls(tls_parameters(config)?, &hello).await?;
        } else if config.encryption == Encryption::Required {
            connection.abort().await;
            return Err(Failure::Other("TLS is required, and the server does not offer STARTTLS".into()));
        }
    }
    if let Err(failure) = log_in(config, &mut connection, &hello).await {
        connection.abort().await;
        return Err(failure);
    }
    let sent = connection.send(mail.envelope(), &mail.formatted()).await;
    match sent {
        Ok(response) => {
            // The mail is accepted; how the server takes leave changes nothing.
            let _ = connection.quit().await;
            let said = response.message().collect::<Vec<_>>().join(" ");
            Ok(format!("answered {} {said}", response.code()))
        }
        Err(error) => {
            connection.abort().await;
            Err(error.into())
        }
    }
}

/// The best of the server's mechanisms for which there is a secret: one that keeps the secret to itself before those that
/// send it.
async fn log_in(config: &EmailConfig, connection: &mut AsyncSmtpConnection, hello: &ClientId) -> Result<(), Failure> {
    let Some(username) = &config.username else { return Ok(()) };
    let greeting = connection.command(format!("EHLO {hello}\r\n")).await?;
    let offered: Vec<String> = greeting
        .message()
        .filter_map(|line| line.get(..5).filter(|word| word.eq_ignore_ascii_case("AUTH ")).and(line.get(5..)))
        .flat_map(|rest| rest.split_ascii_whitespace().map(str::to_ascii_uppercase))
        .collect();
    let known = [("CRAM-MD5", &config.auth_secret), ("PLAIN", &config.password), ("LOGIN", &config.password)];
    for (mechanism, secret) in known {
        let Some(secret) = secret.as_ref().filter(|_| offered.iter().any(|word| word == mechanism)) else { continue };
        let secret = secret.read().await?;
        match mechanism {
            "CRAM-MD5" => {
                let asked = connection.command("AUTH CRAM-MD5\r\n".to_owned()).await?;
                let challenge = asked.message().next().unwrap_or_default();
                let challenge = BASE64
                    .decode(challenge.trim())
                    .map_err(|_| Failure::Other("the server's challenge for CRAM-MD5 is not in base64".into()))?;
                let answer = cram_md5::answer(username, secret.expose(), &challenge);
                connection.command(line(&answer)).await?;
            }
            "PLAIN" => {
                // RFC 4616: authorization identity, authentication identity, password.
                let triple = format!("{}\0{username}\0{}", config.identity, secret.expose());
                connection.command(format!("AUTH PLAIN {}", line(&triple))).await?;
            }
            _ => {
                connection.command("AUTH LOGIN\r\n".to_owned()).await?;
                connection.command(line(username)).await?;
                connection.command(line(secret.expose())).await?;
            }
        }
        return Ok(());
    }
    if offered.is_empty() {
        return Err(Failure::Other(
            "the server offers no login (AUTH) on this connection; leave username out or use TLS".into(),
        ));
    }
    let needed = "PLAIN and LOGIN want a password, CRAM-MD5 wants auth_secret";
    Err(Failure::Other(format!("no secret for the logins that the server offers ({}): {needed}", offered.join(", "))))
}

fn line(text: &str) -> String {
    format!("{}\r\n", BASE64.encode(text))
}

fn tls_parameters(config: &EmailConfig) -> Result<TlsParameters, String> {
    let unusable = |error| format!("TLS cannot be set up: {error}");
    let tls = &config.tls;
    let mut builder = TlsParameters::builder(tls.server_name.clone().unwrap_or_else(|| config.host.clone()));
    if tls.insecure_skip_verify {
        builder = builder.dangerous_accept_invalid_certs(true).dangerous_accept_invalid_hostnames(true);
    } else {
        let mut store = rustls::RootCertStore::empty();
        // lettre refuses all when one cannot be parsed, so those are left out here.
        let system = http::system_roots().iter().filter(|certificate| store.add((*certificate).clone()).is_ok());
        for certificate in system {
            builder = builder.add_root_certificate(Certificate::from_der(certificate.to_vec()).map_err(unusable)?);
        }
        if let Some(ca) = &tls.ca {
            for certificate in ca.certificates()? {
                builder = builder.add_root_certificate(Certificate::from_der(certificate.to_vec()).map_err(unusable)?);
            }
        }
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        builder = builder.identify_with(Identity::from_pem(&cert.read()?, &key.read()?).map_err(unusable)?);
    }
    if tls.min_version == Some(http::TlsVersion::V1_3) {
        builder = builder.set_min_tls_version(LettreTls::Tlsv13);
    }
    builder.build().map_err(unusable)
}
