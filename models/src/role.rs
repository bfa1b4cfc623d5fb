//! What a parameter is for: what precision, initialisation, weight decay and counting ask about it. Declared with the layer, never
//! guessed from a name.

/// The kind of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// A matrix product over channels: linear layers and 1x1 convolutions.
    Linear,
    /// A convolution over space and channels.
    Convolution,
    /// A convolution of each channel by itself.
    Depthwise,
    /// The affine part of a normalisation.
    Norm,
    /// Global response normalisation.
    Grn,
    /// A table with a row per label.
    Table,
}

/// Which of a layer's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// What multiplies: matrix, taps, rows of a table; a normalisation's scale, GRN's gamma.
    Weight,
    /// What is added: bias; a normalisation's shift, GRN's beta.
    Bias,
}

/// Where in a network a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Sees the timestep alone.
    Timestep,
    /// Sees the class alone.
    Class,
    /// Makes shifts, scales and gates for the blocks of timestep and class.
    Modulation,
    /// The first layer on the image.
    Input,
    /// Between the first and the last, as most are.
    Trunk,
    /// Takes back to the width of its stage what a skip connection has joined.
    Skip,
    /// The last layer on the image.
    Output,
}

/// At which size of the image a layer works, or those do that it makes shifts, scales, gates, times and classes for. Networks have few weights
/// at the full one, each of which makes every pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The image's own.
    Full,
    /// Half of it, its channels becoming pixels of the image's own.
    ToFull,
    /// Less, or nobody has said.
    Reduced,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// The kind of its layer.
    pub layer: LayerKind,
    /// Which of the layer's parameters it is.
    pub part: ParameterKind,
    /// Where the layer stands.
    pub region: Region,
    /// The size of the image there.
    pub resolution: Resolution,
}
