"""The heads: one module for each task, listed in `HEADS`."""

from bertrt.heads.base import Head
from bertrt.heads.feature_extraction import FeatureExtraction
from bertrt.heads.fill_mask import FillMask
from bertrt.heads.multi_vector_embedding import MultiVectorEmbedding
from bertrt.heads.multiple_choice import MultipleChoice
from bertrt.heads.next_sentence_prediction import NextSentencePrediction
from bertrt.heads.pretraining import Pretraining
from bertrt.heads.question_answering import QuestionAnswering
from bertrt.heads.sparse_embedding import SparseEmbedding
from bertrt.heads.text_classification import TextClassification
from bertrt.heads.text_generation import TextGeneration
from bertrt.heads.token_classification import TokenClassification
from bertrt.heads.zero_shot_classification import ZeroShotClassification

__all__ = ["HEADS", "Head"]

# Head classes by task.
HEADS: dict[str, type[Head]] = {
    head.task: head
    for head in (
        FeatureExtraction,
        FillMask,
        MultiVectorEmbedding,
        MultipleChoice,
        NextSentencePrediction,
        Pretraining,
        QuestionAnswering,
        SparseEmbedding,
        TextClassification,
        TextGeneration,
        TokenClassification,
        ZeroShotClassification,
    )
}
