//! Writes the lines of `export: {NAME: {log: ...}}`: to standard output, or to a file that is begun anew when it is full.

use super::ExportContext;
use crate::config::schema::EventLogConfig;
use crate::telemetry::OnChange;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lines written at once.
const AT_ONCE: usize = 4_096;

/// Writes until cancelled, then what still waits.
pub async fn run(
    context: ExportContext,
    config: EventLogConfig,
    mut lines: mpsc::Receiver<Vec<String>>,
    cancel: CancellationToken,
) {
    let mut out = Out::new(config.file.as_ref().map(|file| context.base_dir.join(&file.value)), &config);
    let failing = OnChange::new(false);
    let (mut sent, mut dropped) = (0_u64, 0_u64);
    loop {
        let mut portion = tokio::select! {
            biased;
            portion = lines.recv() => match portion {
                Some(portion) => portion,
                None => break,
            },
            () = cancel.cancelled() => break,
        };
        while portion.len() < AT_ONCE
            && let Ok(more) = lines.try_recv()
        {
            portion.extend(more);
        }
        let count = portion.len() as u64;
        // Disks can be slow: this thread is for that.
        let written = tokio::task::spawn_blocking(move || {
            let outcome = out.write(&portion);
            (out, outcome)
        });
        let Ok((returned, outcome)) = written.await else { return };
        out = returned;
        let error = match outcome {
            Ok(()) => {
                sent += count;
                failing.set(false);
                String::new()
            }
            Err(error) => {
                dropped += count;
                crate::telemetry::self_metrics::event_log_dropped(&context.name, "failed").increment(count);
                if failing.set(true) {
                    tracing::error!(export = %context.name, %error, "lines for events cannot be written");
                }
                error.to_string()
            }
        };
        context.statuses.update(&context.name, |status| {
            (status.kind, status.sent, status.dropped) = ("log", sent, dropped);
            status.state = if error.is_empty() { "sending" } else { "failed" };
            status.last_error = error;
        });
    }
    let mut rest = Vec::new();
    while let Ok(more) = lines.try_recv() {
        rest.extend(more);
    }
    // At the end there is nobody left to tell.
    let _ = out.write(&rest);
}

struct Out {
    path: Option<PathBuf>,
    file: Option<(std::fs::File, u64)>,
    rotate_bytes: u64,
    rotate_keep: usize,
}

impl Out {
    fn new(path: Option<PathBuf>, config: &EventLogConfig) -> Self {
        Self { path, file: None, rotate_bytes: config.rotate_bytes, rotate_keep: config.rotate_keep }
    }

    fn write(&mut self, lines: &[String]) -> std::io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = lines.join("\n");
        text.push('\n');
        let Some(path) = &self.path else {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            return out.flush();
        };
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => open(path)?,
        };
        if size > 0 && size + text.len() as u64 > self.rotate_bytes {
            drop(file);
            rotate(path, self.rotate_keep)?;
            (file, size) = open(path)?;
        }
        file.write_all(text.as_bytes())?;
        self.file = Some((file, size + text.len() as u64));
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<(std::fs::File, u64)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// `log`, `log.1`, `log.2`: the highest number is the oldest.
fn rotate(path: &Path, keep: usize) -> std::io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_begun_anew_and_some_old_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/events.log");
        let mut out = Out { path: Some(path.clone()), file: None, rotate_bytes: 20, rotate_keep: 2 };
        for number in 0..6 {
            out.write(&[format!("line number {number}")]).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join("sub").join(name)).unwrap_or_default();
        assert_eq!(read("events.log"), "line number 5\n");
        assert_eq!((read("events.log.1"), read("events.log.2")), ("line number 4\n".into(), "line number 3\n".into()));
        assert_eq!(read("events.log.3"), "");
    }
}
