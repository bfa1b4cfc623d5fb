pub type Tensor = ndarray::ArrayD<f64>;
