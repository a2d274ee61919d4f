//! TLS of every outgoing connection: which authorities are trusted, which certificate is shown, which versions are spoken.
//! Receivers call it `tls_config`, sources `tls`.

mod named;

use crate::secret::Secret;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

/// Certificates or a key in PEM form: in the configuration, or in a file that is read anew when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// The text itself (`ca`, `cert`, `key`).
    Text(Secret),
    /// A path (`ca_file`, `cert_file`, `key_file`).
    File(String),
}

impl Pem {
    /// What messages call it.
    fn name(&self) -> &str {
        match self {
            Self::Text(_) => "the configuration",
            Self::File(path) => path,
        }
    }

    /// The bytes now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.expose().as_bytes().to_vec()),
            Self::File(path) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}")),
        }
    }

    /// Changes when the file does: its time, length and inode.
    async fn stamp(&self) -> (i64, i64, u64, u64) {
        let Self::File(path) = self else { return (0, 0, 0, 0) };
        match tokio::fs::metadata(path).await {
            Ok(file) => (file.mtime(), file.mtime_nsec(), file.len(), file.ino()),
            Err(_) => (-1, 0, 0, 0),
        }
    }

    /// The certificates in it.
    ///
    /// # Errors
    /// A sentence with the file's name and the reason.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let name = self.name();
        let bytes = self.read()?;
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match list {
            Ok(list) if list.is_empty() => Err(format!("{name} holds no certificate in PEM form")),
            Ok(list) => Ok(list),
            Err(error) => Err(format!("cannot read the certificates in {name}: {error}")),
        }
    }
}

/// A version of TLS; older ones than 1.2 are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Authorities to trust besides the usual ones.
    pub ca: Option<Pem>,
    /// Our own certificate.
    pub cert: Option<Pem>,
    /// Its key.
    pub key: Option<Pem>,
    /// The name that the server's certificate must bear and that is asked for (RFC 6066, section 3); the host otherwise.
    pub server_name: Option<String>,
    /// Trust anybody. For tests and for networks that are safe by other means.
    pub insecure_skip_verify: bool,
    /// The least version that is spoken.
    pub min_version: Option<TlsVersion>,
    /// The highest version that is spoken.
    pub max_version: Option<TlsVersion>,
}

/// What the files were like when they were read.
pub type Stamp = [(i64, i64, u64, u64); 3];

impl TlsOptions {
    /// What the files are like now: when it differs, they are to be read anew.
    pub async fn stamp(&self) -> Stamp {
        let mut stamp = Stamp::default();
        for (at, pem) in [&self.ca, &self.cert, &self.key].into_iter().enumerate() {
            if let Some(pem) = pem {
                stamp[at] = pem.stamp().await;
            }
        }
        stamp
    }

    /// For clients of HTTP: h2 is offered when `http2`.
    ///
    /// # Errors
    /// A sentence: a file cannot be used.
    pub fn http_client_config(&self, http2: bool) -> Result<rustls::ClientConfig, String> {
        let mut config = self.client_config()?;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// For clients of anything; reads the files.
    ///
    /// # Errors
    /// A sentence: a file cannot be used.
    pub fn client_config(&self) -> Result<rustls::ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions())
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        Ok(match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let read = PrivateKeyDer::from_pem_slice(&key.read()?)
                    .map_err(|error| format!("cannot read the key in {}: {error}", key.name()))?;
                builder
                    .with_client_auth_cert(cert.certificates()?, read)
                    .map_err(|error| format!("the certificate of {} cannot be used: {error}", cert.name()))?
            }
            _ => builder.with_no_client_auth(),
        })
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        roots.add_parsable_certificates(system_roots().iter().cloned());
        if let Some(ca) = &self.ca {
            for certificate in ca.certificates()? {
                let unusable = |error| format!("{} holds a certificate that cannot be used: {error}", ca.name());
                roots.add(certificate).map_err(unusable)?;
            }
        }
        Ok(roots)
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        match (self.min_version, self.max_version) {
            (Some(TlsVersion::V1_3), _) => &BOTH[..1],
            (_, Some(TlsVersion::V1_2)) => &BOTH[1..],
            _ => BOTH,
        }
    }
}

/// The process's cryptography is ring; installing it a second time does nothing.
pub fn install_provider() {
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Where systems keep the authorities they trust; the first that is there serves, SSL_CERT_FILE before all.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's authorities, read once; none in a scratch image, where webpki's serve.
pub fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let named = std::env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty());
        let bundles = named.into_iter().chain(SYSTEM_BUNDLES.map(String::from));
        bundles.filter_map(|path| Pem::File(path).certificates().ok()).next().unwrap_or_default()
    })
}

/// `insecure_skip_verify`: any certificate will do, but what it signs must be signed by it.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
