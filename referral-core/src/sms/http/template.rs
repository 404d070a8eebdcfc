//! Templates: texts with placeholders such as `{phone}`. The values are escaped according to their location.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap as _};
use zeroize::Zeroizing;

use super::ConfigError;

/// Characters that are escaped in a segment of a path: all except the unreserved ones (RFC 3986, section
/// 2.3).
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Values of placeholders.
pub(super) struct Values<'a> {
    /// Values of the message, by name.
    pub(super) message: &'a [(&'static str, Cow<'a, str>)],
    /// Configured settings, by name.
    pub(super) settings: &'a BTreeMap<String, Zeroizing<String>>,
}

impl Values<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let of_message = self.message.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value);
        of_message.or_else(|| self.settings.get(name).map(|value| value.as_str()))
    }
}

/// Returns values without escapes, for locations that are escaped later.
impl leon::Values for Values<'_> {
    fn get_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(Cow::Borrowed)
    }
}

/// Values that are escaped for the path of a URL.
struct InPath<'a>(&'a Values<'a>);

impl leon::Values for InPath<'_> {
    fn get_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| utf8_percent_encode(value, IN_PATH).into())
    }
}

/// Valid text with placeholders. It is parsed for each use, because the result of the parser borrows the
/// text. The cost is small compared with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(String);

impl Template {
    fn parse(source: String) -> Result<Self, ConfigError> {
        // The error of the parser quotes the whole template, which may contain a secret.
        leon::Template::parse(&source).map_err(|_| {
            ConfigError::new(
                "a template contains an unexpected brace or backslash; write literal ones as \\{, \\} and \\\\",
            )
        })?;
        Ok(Self(source))
    }

    fn parsed(&self) -> leon::Template<'_> {
        leon::Template::parse(&self.0).expect("the template was parsed before")
    }

    /// Returns the text with unescaped values.
    pub(super) fn render(&self, values: &Values<'_>) -> Result<Zeroizing<String>, ConfigError> {
        Self::rendered(self.parsed().render(values))
    }

    /// Returns the text as a URL, with values escaped for a path.
    pub(super) fn render_url(&self, values: &Values<'_>) -> Result<Zeroizing<String>, ConfigError> {
        Self::rendered(self.parsed().render(&InPath(values)))
    }

    fn rendered(text: Result<String, leon::RenderError>) -> Result<Zeroizing<String>, ConfigError> {
        text.map(Zeroizing::new).map_err(|error| match error {
            leon::RenderError::MissingKey(name) => ConfigError::missing(&name),
            leon::RenderError::Io(_) => ConfigError::new("failed to render a template"),
        })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Names and templates, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(Vec<(String, Template)>);

impl Pairs {
    /// Returns the pairs whose values are not empty.
    pub(super) fn render<'a>(
        &'a self,
        values: &Values<'_>,
    ) -> Result<Vec<(&'a str, Zeroizing<String>)>, ConfigError> {
        let rendered = self.0.iter().map(|(name, template)| Ok((name.as_str(), template.render(values)?)));
        let rendered: Result<Vec<_>, ConfigError> = rendered.collect();
        Ok(rendered?.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and strings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// JSON value whose strings are templates. It keeps the order of the configuration.
#[derive(Clone, Debug)]
pub(super) enum JsonTemplate {
    Text(Template),
    Number(serde_json::Number),
    Flag(bool),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Returns the JSON value. Members of objects whose value is an empty string are omitted.
    pub(super) fn render(&self, values: &Values<'_>) -> Result<Json, ConfigError> {
        Ok(match self {
            Self::Text(template) => Json::Text(template.render(values)?),
            Self::Number(number) => Json::Number(number.clone()),
            Self::Flag(flag) => Json::Flag(*flag),
            Self::List(items) => {
                Json::List(items.iter().map(|item| item.render(values)).collect::<Result<_, _>>()?)
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| Ok((name.clone(), value.render(values)?)));
                let mut fields = fields.collect::<Result<Vec<_>, ConfigError>>()?;
                fields.retain(|(_, value)| !matches!(value, Json::Text(text) if text.is_empty()));
                Json::Object(fields)
            }
        })
    }
}

impl<'de> Deserialize<'de> for JsonTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = JsonTemplate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, true, false, a list or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonTemplate, E> {
                Template::parse(text.to_owned()).map(JsonTemplate::Text).map_err(E::custom)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<JsonTemplate, E> {
                Ok(JsonTemplate::Flag(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<JsonTemplate, E> {
                Ok(JsonTemplate::Number(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<JsonTemplate, E> {
                let number = serde_json::Number::from_f64(number);
                number.map(JsonTemplate::Number).ok_or_else(|| E::custom("the number must be finite"))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<JsonTemplate, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(JsonTemplate::List(items))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<JsonTemplate, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(JsonTemplate::Object(fields))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// JSON value that keeps the order of its members.
pub(super) enum Json {
    Text(Zeroizing<String>),
    Number(serde_json::Number),
    Flag(bool),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => number.serialize(serializer),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(items) => items.serialize(serializer),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}
