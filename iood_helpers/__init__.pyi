from .bravo.metrics import bravo_metrics as bravo_metrics
from .bravo.submission import encode_submission as encode_submission
from .bravo.submission import evaluate_submission as evaluate_submission
from .datasets.loading import load_dataset as load_dataset
from .method.embedder import PixelEmbedder as PixelEmbedder
from .method.kmeans import ClassKMeans as ClassKMeans
from .method.refinement import novelty_map as novelty_map
from .method.refinement import refine_confidence as refine_confidence
from .method.store import EmbeddingStore as EmbeddingStore
from .method.store import extract_embeddings as extract_embeddings
from .model.onnx_export import export_onnx as export_onnx
from .model.prediction import Prediction as Prediction
from .model.segmenter import Segmenter as Segmenter
from .model.segmenter import load_segmenter as load_segmenter

__version__: str
