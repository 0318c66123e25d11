//! Parsing of a GGUF tensor's name: `blk.N.KIND.weight` is the weight of kind KIND in layer N.

/// A tensor's GGUF name, with methods for its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorName<'a>(pub &'a str);

impl<'a> TensorName<'a> {
    /// The prefix of the names of all tensors in layers.
    const LAYERS: &'static str = "blk.";

    /// Returns the number of the tensor's layer, from 0; `None` for tensors outside the layers.
    pub fn layer(self) -> Option<u32> {
        let rest = self.0.strip_prefix(Self::LAYERS)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok()
    }

    /// Returns true if the name begins like that of a tensor of a layer.
    pub fn is_in_layers(self) -> bool {
        self.0.starts_with(Self::LAYERS)
    }

    /// Returns the tensor's kind, such as `attn_q` or `ffn_down_exps`, without `.weight`; `None` for tensors outside the
    /// layers.
    pub fn kind(self) -> Option<&'a str> {
        self.layer()?;
        let (_, kind) = self.0.strip_prefix(Self::LAYERS)?.split_once('.')?;
        Some(kind.strip_suffix(".weight").unwrap_or(kind))
    }

    /// Returns true if the tensor holds one matrix for each expert of a mixture.
    pub fn is_of_experts(self) -> bool {
        self.0.contains("_exps")
    }

    /// Returns the name of the bias that belongs to the weight of this name.
    pub fn bias(self) -> String {
        format!("{}.bias", self.0.strip_suffix(".weight").unwrap_or(self.0))
    }

    /// Returns true if the tensor is a bias.
    pub fn is_bias(self) -> bool {
        self.0.ends_with(".bias")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let parts = |name| {
            let name = TensorName(name);
            (name.layer(), name.kind(), name.is_of_experts(), name.is_bias())
        };
        assert_eq!(parts("blk.0.attn_q.weight"), (Some(0), Some("attn_q"), false, false));
        assert_eq!(parts("blk.12.ffn_down_exps.weight"), (Some(12), Some("ffn_down_exps"), true, false));
        assert_eq!(parts("blk.3.attn_q.bias"), (Some(3), Some("attn_q.bias"), false, true));
        assert_eq!(parts("output.weight"), (None, None, false, false));
        assert_eq!(parts("blk.x.attn_q.weight"), (None, None, false, false));
        assert_eq!(parts("blk.99999999999.a"), (None, None, false, false));
        assert_eq!(TensorName("blk.3.attn_q.weight").bias(), "blk.3.attn_q.bias");
        assert!(TensorName("blk.x.a").is_in_layers() && !TensorName("a.blk.0").is_in_layers());
    }
}
