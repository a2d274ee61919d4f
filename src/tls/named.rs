//! A name that the server's certificate must bear, for clients that know only the host they connect to.

use super::TlsOptions;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

impl TlsOptions {
    /// As [`TlsOptions::client_config`], and `server_name` is what the certificate is compared with, whatever host the
    /// client connects to. The client's own idea of the host is still what it asks for (RFC 6066, section 3).
    ///
    /// # Errors
    /// A sentence: a file cannot be used, or the name is none.
    pub fn named_client_config(&self) -> Result<rustls::ClientConfig, String> {
        let mut config = self.client_config()?;
        let Some(name) = self.server_name.as_ref().filter(|_| !self.insecure_skip_verify) else { return Ok(config) };
        let name =
            ServerName::try_from(name.clone()).map_err(|_| format!("server_name: {name:?} is no name of a host"))?;
        let provider = config.crypto_provider().clone();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        config.dangerous().set_certificate_verifier(Arc::new(Named { name, verifier }));
        Ok(config)
    }
}

/// Verifies as usual, but for this name.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
