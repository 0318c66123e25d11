//! Reports on several texts and the worst of them, since a mean over texts would hide one that suffers.

use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Report;

/// The report on one of several texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextScore {
    /// Path of the text.
    pub text: PathBuf,
    /// What was measured on it.
    #[serde(flatten)]
    pub report: Report,
}

/// Reports on one or more texts. In JSON, those on several texts are the list `texts` with the path of the worst as `worst`; that
/// on one text stands alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    texts: Vec<TextScore>,
}

impl Scores {
    /// Collects the reports on texts, in their order.
    pub fn new(texts: Vec<TextScore>) -> Self {
        Self { texts }
    }

    /// Returns the text with the largest mean KL divergence, the first of equals, and that divergence; `None` where nothing
    /// was compared. A divergence that is no number is larger than any.
    pub fn worst(&self) -> Option<(&Path, f64)> {
        let compared = self
            .texts
            .iter()
            .filter_map(|score| Some((score.text.as_path(), score.report.comparison.as_ref()?.kl.mean)));
        compared.reduce(|worst, next| if next.1.total_cmp(&worst.1).is_gt() { next } else { worst })
    }

    /// Returns all reports as lines of text, each ending with a line feed.
    pub fn text(&self) -> String {
        if let [one] = self.texts.as_slice() {
            return one.report.text();
        }
        let each = |score: &TextScore| format!("{}\n{}\n", score.text.display(), score.report.text());
        let mut all: String = self.texts.iter().map(each).collect();
        if let Some((text, kl)) = self.worst() {
            all += &format!(
                "worst of {} texts: KL divergence {kl:.6} on {}\n",
                self.texts.len(),
                text.display()
            );
        }
        all
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [one] = self.texts.as_slice() {
            return one.report.serialize(serializer);
        }
        let mut all = serializer.serialize_struct("Scores", 2)?;
        all.serialize_field("texts", &self.texts)?;
        all.serialize_field("worst", &self.worst().map(|(text, _)| text))?;
        all.end()
    }
}
