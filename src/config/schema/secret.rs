//! Secrets of the configuration, and the one way to read them.

use crate::config::{Span, Spanned};
use crate::secret::Secret;
use std::io;
use std::path::PathBuf;

/// A secret that stands in the configuration or in a file that is read at each use, so that a rotated one needs no reload.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// The text itself.
    Inline(Spanned<Secret>),
    /// `*_file`: a path.
    File(Spanned<String>),
}

impl SecretSource {
    /// Where it, or its path, stands.
    pub fn span(&self) -> &Span {
        match self {
            Self::Inline(text) => &text.span,
            Self::File(path) => &path.span,
        }
    }

    /// The secret's text now.
    ///
    /// # Errors
    /// A sentence with the file's name: it cannot be read, or it is empty.
    pub async fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Inline(text) => Ok(text.value.clone()),
            Self::File(path) => {
                let path = path.path();
                let text = tokio::fs::read_to_string(&path).await;
                content(text, &path)
            }
        }
    }

    /// [`Self::read`] for callers that do not run on tokio's threads, or read before anything runs.
    ///
    /// # Errors
    /// As there.
    pub fn read_now(&self) -> Result<Secret, String> {
        match self {
            Self::Inline(text) => Ok(text.value.clone()),
            Self::File(path) => {
                let path = path.path();
                content(std::fs::read_to_string(&path), &path)
            }
        }
    }
}

impl Spanned<String> {
    /// The file that this path names: a relative one starts at the folder of the file that it stands in, be that
    /// sidewatch.yaml or a file of Alertmanager's (as prometheus/common, `SetDirectory`).
    pub fn path(&self) -> PathBuf {
        self.span.folder().join(&self.value)
    }
}

/// The newline that editors put at the end is none of the secret; anything else is.
fn content(text: io::Result<String>, path: &std::path::Path) -> Result<Secret, String> {
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        blank if blank.trim().is_empty() => Err(format!("the file {} is empty", path.display())),
        text => Ok(Secret::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_lies_beside_the_file_that_names_it_and_loses_its_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let file = folder.path().join("sidewatch.yaml").display().to_string();
        let span = Span { file: file.as_str().into(), line: 1, column: 1 };
        let source = SecretSource::File(Spanned::new("run/token".into(), span));
        let path = folder.path().join("run/token");
        for (text, expected) in [
            ("t0p s3cret\n", Ok("t0p s3cret".to_owned())),
            (" kept \r\n", Ok(" kept ".to_owned())),
            ("no newline", Ok("no newline".to_owned())),
            ("\n", Err(format!("the file {} is empty", path.display()))),
            ("", Err(format!("the file {} is empty", path.display()))),
        ] {
            std::fs::write(&path, text).unwrap();
            let read = source.read().await.map(|secret| secret.expose().to_owned());
            assert_eq!(read, expected, "{text:?}");
            assert_eq!(source.read_now().map(|secret| secret.expose().to_owned()), expected, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(source.read().await.unwrap_err().starts_with(&format!("cannot read {}: ", path.display())));
    }
}
