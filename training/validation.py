"""The validator of an epoch: CIDEr-D of beam search on every dev set. Knows no gradients."""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from evaluation.captioning import caption_annotations, draw_sheets
from evaluation.metrics.score import cider_d
from models.config import DecodingOptions
from models.network import CaptioningModel
from training.data.datasets import Photo
from training.data.images import AnnotationCache, PictureReader
from training.distributed import Processes
from training.experiment import TrainingData
from training.run_log import RunLog

__all__ = ["Validator"]

_BATCH_SIZE = 16
_SHEETS = 4  # dev photos shown with caption and maps


class Validator:
    """Captions the dev sets with the search that the service uses, the photos shared out among
    the processes."""

    def __init__(
        self,
        experiment: TrainingData,
        reader: PictureReader,
        encode: Callable[[Tensor], Tensor],
        options: DecodingOptions,
        processes: Processes,
        run_log: RunLog,
    ) -> None:
        """Take `encode`, from pixels (B, 3, S, S) uint8 to annotations (B, L, D) in float32."""
        self.experiment, self.reader, self.encode, self.options = (
            experiment,
            reader,
            encode,
            options,
        )
        self.processes, self.run_log = processes, run_log

    def scores(
        self, model: CaptioningModel, caches: Mapping[str, AnnotationCache]
    ) -> dict[str, float]:
        """Give CIDEr-D by the name of the dev set, and show what was said; the model is left in
        evaluation mode.

        The annotations of a set that is in `caches` are read from there.
        """
        model.eval()
        scores = {}
        for name, photos in self.experiment.dev.items():
            captions = self._caption(model, name, photos, caches.get(name))
            scores[name] = cider_d([photo.captions for photo in photos], captions).value
            self.run_log.captions(name, photos, captions)
            if self.processes.is_first:
                pixels = self._read(photos[:_SHEETS])
                vocabulary = self.experiment.vocabulary
                self.run_log.sheets(
                    name, draw_sheets(model, pixels, self.encode(pixels), self.options, vocabulary)
                )
        return scores

    def _caption(
        self, model: CaptioningModel, name: str, photos: list[Photo], cache: AnnotationCache | None
    ) -> list[str]:
        """Caption this process's share, and collect everyone's, in order."""
        mine = list(range(self.processes.rank, len(photos), self.processes.world))
        captions: list[tuple[int, str]] = []
        with self.run_log.bar(f"dev {name}", len(mine)) as bar:
            for batch in _chunks(mine):
                if cache is None:
                    annotations = self.encode(self._read([photos[index] for index in batch]))
                else:
                    annotations = cache.read(batch).to(self.processes.device)
                texts = caption_annotations(
                    model, annotations, self.options, self.experiment.vocabulary
                )
                captions += zip(batch, texts, strict=True)
                bar.update(len(batch))
        return [text for _, text in self.processes.gather(captions)]

    def _read(self, photos: list[Photo]) -> Tensor:
        return self.reader([photo.path for photo in photos if photo.path is not None])


def _chunks(items: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
