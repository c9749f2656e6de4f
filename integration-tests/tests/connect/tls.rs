//! A worker behind TLS that asks for a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::cli::connectors;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/connect/certificates").join(name)
}

fn certificates(name: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_file_iter(file(name))?.collect::<Result<_, _>>()?)
}

/// A server that lets in only who shows a certificate of the test authority, and has no connectors.
async fn worker() -> Result<String> {
    let mut authority = RootCertStore::empty();
    for certificate in certificates("ca.pem")? {
        authority.add(certificate)?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority), Arc::clone(&provider)).build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("server.pem")?, PrivateKeyDer::from_pem_file(file("server.key"))?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]";
                stream.write_all(answer).await.ok();
            }
            stream.shutdown().await.ok();
        }
    });
    Ok(url)
}

#[tokio::test]
async fn both_sides_show_a_certificate() -> Result<()> {
    let url = worker().await?;
    let path = |name: &str| file(name).to_str().map(str::to_owned).context("a checkout with an odd name");
    let (ca, cert, key) = (path("ca.pem")?, path("client.pem")?, path("client.key")?);
    let run = connectors(&["--url", &url, "status", "--cert", &cert, "--key", &key]).await?;
    run.ended(1)?.said(&[&url, "no trusted connection", "--cacert"])?;
    let run = connectors(&["--url", &url, "status", "--cacert", &ca]).await?;
    run.ended(1)?.said(&[&url, "no trusted connection", "--cert and --key"])?;
    let run = connectors(&["--url", &url, "status", "--cacert", &ca, "--cert", &cert, "--key", &key]).await?;
    run.ended(0)?.said(&["no connectors"])?;
    let run = connectors(&["--url", &url, "status", "--cacert", &ca, "--cert", &cert, "--key", &ca]).await?;
    run.ended(2)?.said(&["--cert", "--key holds no private key"])?;
    Ok(())
}
