//! The front matter of a model card: the YAML between the first two lines `---` of README.md.

use std::collections::HashMap;
use std::path::Path;

use kquant_formats::whole;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value as Json;

/// Depth to which nested lists and mappings are read; cards have three levels.
const DEEPEST: usize = 64;

/// A node of YAML or JSON without types: texts are as written, such as `1.10` and `no`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The front matter of a model card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card(Vec<(String, Node)>);

/// Most bytes that the copies of all aliases have together; cards use none, and a short text could stand for gigabytes.
const MOST_COPIED: usize = 1 << 20;

/// Largest size of a card in bytes, a hundred times that of long ones.
const LONGEST: u64 = 4 << 20;

/// The reason why a card cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CardError(String);

impl Card {
    /// Reads README.md of `folder`; the result is empty if there is no such file or it has no front matter.
    ///
    /// # Errors
    /// Fails when the file cannot be read or its front matter is not YAML.
    pub fn open(folder: &Path) -> Result<Self, CardError> {
        let path = folder.join("README.md");
        let error = |what: &str| CardError(format!("{}: {what}", path.display()));
        match whole::read_if_there(&path, LONGEST) {
            Ok(Some(bytes)) => Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| error(&e)),
            Ok(None) => Ok(Self::default()),
            Err(e) => Err(CardError(e.to_string())),
        }
    }

    /// Parses the front matter in a card's text.
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.trim_start_matches('\u{feff}').lines();
        if lines.next() != Some("---") {
            return Ok(Self::default());
        }
        let matter: Vec<&str> = lines.take_while(|&line| line != "---").collect();
        // YAML forbids tabs, but some cards contain them.
        match parse(&(matter.join("\n").replace('\t', "  ") + "\n"))? {
            Node::Map(entries) => Ok(Self(entries)),
            Node::Null => Ok(Self::default()),
            _ => Err("the front matter is no list of `key: value`".into()),
        }
    }

    /// Returns the value under `key`; the last one if there are several.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

impl Node {
    /// Returns the node as one text: the items of a list are joined by commas.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::List(_) => Some(self.texts().join(",")).filter(|text| !text.is_empty()),
            Self::Null | Self::Map(_) => None,
        }
    }

    /// Returns the text, or the texts of a list.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(nodes) => nodes.iter().filter_map(Self::text).collect(),
            Self::Null | Self::Map(_) => Vec::new(),
        }
    }
}

impl From<&Json> for Node {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::String(text) => Self::Text(text.clone()),
            Json::Bool(_) | Json::Number(_) => Self::Text(json.to_string()),
            Json::Array(values) => Self::List(values.iter().map(Self::from).collect()),
            Json::Object(values) => Self::Map(values.iter().map(|(k, v)| (k.clone(), v.into())).collect()),
        }
    }
}

/// A list or mapping that is not closed yet, with its anchor.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<String>,
}

/// Parses the first document of `text`.
fn parse(text: &str) -> Result<Node, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut copied = 0;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| {
            // Lines are counted from the second line of the file.
            format!("the front matter is not YAML: {} in line {}", e.info(), e.marker().line() + 1)
        })?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                (if null { Node::Null } else { Node::Text(text.into_owned()) }, anchor)
            }
            // An alias stands for a text only, because copies of copies could grow without end.
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => {
                    copied += node.text().map_or(0, |text| text.len());
                    if copied > MOST_COPIED {
                        return Err(
                            "the front matter's aliases stand for more than a megabyte of text".into()
                        );
                    }
                    (node.clone(), 0)
                }
                None => (Node::Null, 0),
            },
            Event::SequenceStart(anchor, _) => {
                open.push(Open { node: Node::List(Vec::new()), anchor, key: None });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { node: Node::Map(Vec::new()), anchor, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(closed) => (closed.node, closed.anchor),
                None => continue,
            },
            _ => continue,
        };
        if open.len() > DEEPEST {
            return Err("the front matter has too many lists in lists".into());
        }
        // Only texts are copied for their aliases.
        if anchor > 0 && matches!(node, Node::Text(_)) {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            None => return Ok(node),
            Some(Open { node: Node::List(nodes), .. }) => nodes.push(node),
            Some(Open { node: Node::Map(entries), key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node.text().unwrap_or_default()),
            },
            Some(_) => {}
        }
    }
    Ok(Node::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &str) -> Node {
        Node::Text(node.into())
    }

    #[test]
    fn front_matter_of_all_sorts() {
        let card = Card::parse(
            "---\nlicense: mit\nversion: 1.10\nlanguage:\n- en\n- no\n- \"yes\"\ntags: [a, 'b c', null]\nempty:\nanchor: &x text\n\
             again: *x\nlong: >-\n  one\n  two\nmodel-index:\n\t- name: n\nlicense: apache-2.0\n---\n# not: read\n",
        )
        .unwrap();
        for (key, expected) in [
            ("license", text("apache-2.0")),
            ("version", text("1.10")),
            ("language", Node::List(vec![text("en"), text("no"), text("yes")])),
            ("tags", Node::List(vec![text("a"), text("b c"), Node::Null])),
            ("empty", Node::Null),
            ("again", text("text")),
            ("long", text("one two")),
            ("model-index", Node::List(vec![Node::Map(vec![("name".into(), text("n"))])])),
        ] {
            assert_eq!(card.get(key), Some(&expected), "{key}");
        }
        assert_eq!(card.get("# not"), None);
    }

    #[test]
    fn cards_without_front_matter() {
        for text in [
            "",
            "# Title\n---\nlicense: mit\n---\n",
            "----\nlicense: mit\n---\n",
            "---\n---\n",
            "---\n# x\n---\n",
        ] {
            assert_eq!(Card::parse(text), Ok(Card::default()), "{text:?}");
        }
        let with_mark = Card::parse("\u{feff}---\r\nlicense: mit\r\n---\r\n").unwrap();
        assert_eq!(with_mark.get("license"), Some(&text("mit")));
    }

    #[test]
    fn what_is_no_yaml_is_told() {
        let error = Card::parse("---\nlicense: mit\ntags: [a\nb: c\n---\n").unwrap_err();
        assert!(error.contains("line"), "{error}");
        assert!(Card::parse("---\n- a\n- b\n---\n").unwrap_err().contains("key: value"));
        assert!(Card::parse(&format!("---\na: {}\n---\n", "[".repeat(100_000))).is_err());
        let aliases = format!("---\nlicense: &x {}\ntags:\n{}---\n", "a".repeat(1000), "- *x\n".repeat(1049));
        assert!(Card::parse(&aliases.replacen("- *x\n", "", 1)).is_ok());
        assert!(Card::parse(&aliases).unwrap_err().contains("aliases"));
    }
}
