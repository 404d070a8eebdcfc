//! The log: its filter, its format and its output.

mod json_lines;

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use referral_core::clock::{Clock as _, SystemClock};
use referral_server::REQUEST_SPAN;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::Directive, fmt::format::JsonFields};

use self::json_lines::JsonLines;
use crate::{
    commands::serve::Result,
    settings::{self, log::LogFormat},
};

/// The levels that a directive may have.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Maximum number of lines that wait to be written. Further lines are dropped. A line has about 300 bytes, so
/// these are 2.5 MB and, at one line for each request, a second of full load.
const QUEUE_LINES: usize = 8192;

/// Longest time that the end of the process waits for the queue to be written.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The log of this process.
///
/// A separate thread writes it to standard error, so that a reader that stops reading blocks this thread
/// only. If the queue is full, lines are dropped and counted.
pub(crate) struct Log {
    queue: NonBlocking,
    worker: WorkerGuard,
    dropped: DroppedLines,
}

impl Log {
    /// Starts the log.
    pub(crate) fn start(settings: &settings::log::Log) -> Result<Self> {
        let filter = EnvFilter::try_new(&settings.filter).map_err(|error| format!("--log: {error}"))?;
        let filter = filter.add_directive(request_span());
        let dropped = DroppedLines::default();
        let writer = Writer::new(io::stderr(), settings.format, dropped.clone());
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE_LINES);
        let (queue, worker) = builder.thread_name("log").finish(writer);
        dropped.0.queue.get_or_init(|| queue.error_counter());

        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .log_internal_errors(false)
            .with_writer(queue.clone())
            .with_ansi(io::stderr().is_terminal());
        match settings.format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => {
                subscriber.fmt_fields(JsonFields::new()).event_format(JsonLines::default()).init();
            }
        }
        // Logs the location of a panic and not its message, which may contain personal data.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(location = panic.location().map(ToString::to_string), "a thread panicked");
        }));
        Ok(Self { queue, worker, dropped })
    }

    /// Returns the counter of dropped lines.
    pub(crate) fn dropped_lines(&self) -> DroppedLines {
        self.dropped.clone()
    }

    /// Writes a line that is not part of the log to standard error, after the log so far.
    pub(crate) fn print(&mut self, line: &str) {
        // The text and the line break are one write, because each write may be dropped. The queue itself
        // never fails.
        let _ = self.queue.write_all(format!("{line}\n").as_bytes());
    }

    /// Waits until all lines are written, for [`FLUSH_TIME`] at most.
    pub(crate) fn finish(self) {
        let (done, is_done) = mpsc::channel();
        // The guard waits for the worker, and prints to standard output if the wait times out. This may also
        // block.
        thread::spawn(move || {
            drop(self.worker);
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(FLUSH_TIME);
    }
}

/// Number of log lines that were dropped. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct DroppedLines(Arc<Dropped>);

#[derive(Default)]
struct Dropped {
    /// Lines that found the queue full.
    queue: OnceLock<ErrorCounter>,
    /// Lines that could not be written.
    failed: AtomicU64,
}

impl DroppedLines {
    /// Returns the number since the start of the process.
    pub(crate) fn total(&self) -> u64 {
        let queue = self.0.queue.get().map_or(0, ErrorCounter::dropped_lines);
        queue as u64 + self.0.failed.load(Ordering::Relaxed)
    }
}

/// Writer of the log's thread. Adds a line about dropped lines.
struct Writer<W> {
    output: W,
    format: LogFormat,
    dropped: DroppedLines,
    /// Number of dropped lines that have been reported.
    reported: u64,
    /// Number of lines that were written since the last report.
    written: usize,
}

impl<W: Write> Writer<W> {
    fn new(output: W, format: LogFormat, dropped: DroppedLines) -> Self {
        Self { output, format, dropped, reported: 0, written: 0 }
    }

    fn report_dropped(&mut self) {
        let total = self.dropped.total();
        if total > self.reported {
            let notice = notice(self.format, total - self.reported);
            if self.output.write_all(notice.as_bytes()).is_ok() {
                self.reported = total;
            }
        }
        self.written = 0;
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.output.write_all(line).is_err() {
            self.dropped.0.failed.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        self.written += 1;
        // Under constant load the queue is never empty, and so `flush` is not called.
        if self.written >= QUEUE_LINES {
            self.report_dropped();
        }
        Ok(line.len())
    }

    /// Reports dropped lines. It is called when the queue is empty, so after the lines that were queued when
    /// others were dropped.
    fn flush(&mut self) -> io::Result<()> {
        self.report_dropped();
        let _ = self.output.flush();
        Ok(())
    }
}

/// Formats the line about dropped lines. It cannot go through the queue, where it may be dropped as well.
fn notice(format: LogFormat, dropped: u64) -> String {
    const MESSAGE: &str = "log lines were dropped because standard error was not read fast enough";
    let timestamp = SystemClock.now().format(&Rfc3339).unwrap_or_default();
    let target = module_path!();
    match format {
        LogFormat::Text => format!("{timestamp}  WARN {target}: {MESSAGE} dropped={dropped}\n"),
        LogFormat::Json => {
            let line = json!({
                "timestamp": timestamp, "level": "WARN", "message": MESSAGE, "dropped": dropped, "target": target,
            });
            format!("{line}\n")
        }
    }
}

/// Returns the directive that enables the span of requests at any level of the log. The span itself has no
/// lines.
fn request_span() -> Directive {
    format!("{REQUEST_SPAN}=error").parse().expect("a target with a level is a directive")
}

/// Checks the directives of a filter, and returns them without the spaces between them.
///
/// `EnvFilter` interprets a directive without a known level as the name of a module. So a misspelled level
/// such as `inof` would hide the whole log.
pub(crate) fn check_filter(filter: &str) -> Result<String, String> {
    let directives = filter.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let directives: Vec<_> = directives.collect();
    if directives.is_empty() {
        return Err(format!("name a level: {}", LEVELS.join(", ")));
    }
    directives.iter().try_for_each(|directive| check_directive(directive))?;
    let filter = directives.join(",");
    EnvFilter::try_new(&filter).map_err(|error| error.to_string())?;
    Ok(filter)
}

fn check_directive(directive: &str) -> Result<(), String> {
    // Filters of spans and fields, which `EnvFilter` checks.
    if directive.contains('[') {
        return Ok(());
    }
    let (target, level) = match directive.split_once('=') {
        Some((target, level)) => (Some(target), level),
        None => (None, directive),
    };
    let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
    if is_level && target.is_none_or(is_module) {
        return Ok(());
    }
    let levels = LEVELS.join(", ");
    Err(match target {
        None => format!(
            "the directive `{directive}` is not a level; use one of {levels}, or a module with a level, such as \
             sqlx=debug"
        ),
        Some(_) => format!(
            "the directive `{directive}` is not a module with a level, such as sqlx=debug; use one of the levels \
             {levels}"
        ),
    })
}

/// Returns `true` if the text can be the name of a module, or another target of log lines.
fn is_module(target: &str) -> bool {
    let is_in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    !target.is_empty() && target.chars().all(is_in_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output that fails while it is closed.
    #[derive(Default)]
    struct Output {
        is_closed: bool,
        text: Vec<u8>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_closed { Err(io::ErrorKind::BrokenPipe.into()) } else { self.text.write(bytes) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once() {
        let dropped = DroppedLines::default();
        let mut writer = Writer::new(Output::default(), LogFormat::Text, dropped.clone());
        let write = |writer: &mut Writer<Output>, line: &str| {
            writer.write_all(line.as_bytes()).and_then(|()| writer.flush()).expect("the writer never fails");
        };
        write(&mut writer, "first\n");
        writer.output.is_closed = true;
        write(&mut writer, "second\n");
        write(&mut writer, "third\n");
        assert_eq!(dropped.total(), 2);
        writer.output.is_closed = false;
        write(&mut writer, "fourth\n");
        write(&mut writer, "fifth\n");
        let text = String::from_utf8(writer.output.text).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!([lines[0], lines[1], lines[3]], ["first", "fourth", "fifth"], "{text}");
        assert!(lines.len() == 4 && lines[2].ends_with(" dropped=2"), "{text}");
    }

    #[test]
    fn dropped_lines_are_reported_under_constant_load() {
        let dropped = DroppedLines::default();
        let mut writer = Writer::new(Output::default(), LogFormat::Json, dropped.clone());
        dropped.0.failed.store(7, Ordering::Relaxed);
        for _ in 0..QUEUE_LINES {
            writer.write_all(b"line\n").expect("the writer never fails");
        }
        let text = String::from_utf8(writer.output.text).expect("text");
        let notice: serde_json::Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(notice["dropped"], 7);
    }

    #[test]
    fn directives_with_a_known_level_are_accepted() {
        for filter in [
            "off",
            "ERROR",
            "info,poem=warn",
            "referral_core::session=trace",
            "info,[request]=debug",
            "[{status=500}]=trace",
        ] {
            assert_eq!(check_filter(filter), Ok(filter.to_owned()), "{filter}");
        }
        assert_eq!(check_filter(" info, sqlx=debug ,"), Ok("info,sqlx=debug".to_owned()));
    }

    #[test]
    fn a_directive_without_a_known_level_is_rejected_by_name() {
        for (filter, directive) in [
            ("inof", "inof"),
            ("info,sqlx", "sqlx"),
            ("info,sqlx=debg", "sqlx=debg"),
            ("info,sqlx=", "sqlx="),
            ("=info", "=info"),
            ("x=y=z", "x=y=z"),
            ("info;sqlx=debug", "info;sqlx=debug"),
            ("3", "3"),
        ] {
            let error = check_filter(filter).expect_err(filter);
            assert!(error.contains(&format!("`{directive}`")), "{filter}: {error}");
            assert!(error.contains(&LEVELS.join(", ")), "{filter}: {error}");
        }
        for filter in ["", " ", ","] {
            assert!(check_filter(filter).expect_err("empty").contains("name a level"), "{filter:?}");
        }
        assert!(check_filter("info,[").is_err());
    }
}
