"""Make the Keras files: `pip install tensorflow-cpu==2.19.* tf2onnx==1.17.*`, then run this.

Each is exported by tf2onnx, one of them by way of Keras's own `export`; of the published network
only the structure is kept.
"""

from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from strip import without_weights

HERE = Path(__file__).parent


def small_network(interpolation: str) -> keras.Model:
    """Every kind of SAME padding: on even and odd sizes, strided, depthwise, pooled, dilated."""
    layers = keras.layers
    image = layers.Input((33, 30, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    shortcut = layers.Conv2D(8, 1, strides=2, padding="same")(x)
    x = layers.DepthwiseConv2D(5, strides=2, padding="same")(x)
    x = layers.Activation("hard_swish")(layers.Conv2D(8, 1)(x))
    x = layers.Add()([x, shortcut])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Concatenate()([layers.Conv2D(6, 3, dilation_rate=2, padding="same")(x), x])
    x = layers.UpSampling2D(2, interpolation=interpolation)(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.AveragePooling2D(2, padding="same")(layers.ZeroPadding2D((1, 2))(x))
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(x)))


def shaken(model: keras.Model) -> keras.Model:
    """With no weight at its initial 0 or 1, which tf2onnx would drop."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() + random.random(weight.shape).astype("float32") / 100 + 0.001)
    return model


def converted(model: keras.Model, opset: int) -> onnx.ModelProto:
    """As tf2onnx converts it."""
    shaken(model)
    shape = (None, *model.inputs[0].shape[1:])
    signature = (tf.TensorSpec(shape, tf.float32, name="image"),)
    return tf2onnx.convert.from_keras(model, input_signature=signature, opset=opset)[0]


# What tf2onnx writes for a bilinear one at opset 9 is not ONNX.
for opset, interpolation in ((9, "nearest"), (17, "bilinear")):
    model = converted(small_network(interpolation), opset)
    onnx.save(model, HERE / f"keras_small_opset{opset}.onnx")
exported = shaken(small_network("bilinear"))
# Keras refuses to export what was never called.
exported(np.zeros((1, *exported.inputs[0].shape[1:]), "float32"))
exported.export(HERE / "keras_export.onnx", format="onnx", verbose=False)
published = converted(keras.applications.MobileNetV2(weights=None), 17)
onnx.save(without_weights(published), HERE / "keras_mobilenetv2.onnx")
