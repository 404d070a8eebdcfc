//! Format of the log as JSON, with the id of the request in each line.

use std::fmt;

use referral_server::REQUEST_SPAN;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// Lines of JSON objects. The fields of an event and those of the span of its request are members of the
/// object. Other spans have no fields of interest, and are omitted.
pub(super) struct JsonLines(Format<Json>);

impl Default for JsonLines {
    fn default() -> Self {
        let format = Format::default().json().flatten_event(true);
        Self(format.with_current_span(false).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let mut spans = context.event_scope().into_iter().flatten();
        let span = spans.find(|span| span.metadata().target() == REQUEST_SPAN);
        let extensions = span.as_ref().map(|span| span.extensions());
        let fields = extensions.as_ref().and_then(|extensions| extensions.get::<FormattedFields<N>>());
        // Both are objects, of which the line also has a line break.
        let fields = fields.and_then(|fields| fields.fields.strip_prefix('{')?.strip_suffix('}'));
        match (fields.filter(|fields| !fields.is_empty()), line.strip_suffix("}\n")) {
            (Some(fields), Some(object)) => writeln!(writer, "{object},{fields}}}"),
            _ => writer.write_str(&line),
        }
    }
}
