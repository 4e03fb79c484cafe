"""The validation of an epoch: CIDEr-D of beam search on every dev set. Knows no gradients."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from evaluation.captioning import caption_texts, draw_sheets
from evaluation.metrics.cider import cider_d
from models.array_features import Features
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from training.data.annotation_cache import AnnotationCache
from training.data.datasets import CaptionedImage
from training.data.images import ImageReader
from training.distributed import Processes
from training.run_log import RunLog

__all__ = ["Validator"]

_BATCH_SIZE = 16
_SHEETS = 4  # dev images shown with caption and maps


class Validator:
    """Captions the dev sets by the service's search; the processes share the images."""

    def __init__(
        self,
        dev: Mapping[str, list[CaptionedImage]],
        reader: ImageReader,
        options: DecodingOptions,
        processes: Processes,
        run_log: RunLog,
    ) -> None:
        """Take the dev sets by name, and how they are captioned."""
        self.dev = dev
        self.reader = reader
        self.options = options
        self.processes = processes
        self.run_log = run_log

    def scores(
        self, captioner: NetworkCaptioner, caches: Mapping[str, AnnotationCache]
    ) -> dict[str, float]:
        """Give CIDEr-D by the name of the dev set, and show captions and maps.

        caches: annotations of the sets that have them, by name; the others are encoded.
        """
        scores = {}
        for name, images in self.dev.items():
            captions = self._caption(captioner, name, images, caches.get(name))
            scores[name] = cider_d([image.captions for image in images], captions).value
            self.run_log.captions(name, images, captions)
            if self.processes.is_first:
                pixels = self._read(images[:_SHEETS])
                self.run_log.sheets(name, draw_sheets(captioner, pixels, self.options))
        return scores

    def _caption(
        self,
        captioner: NetworkCaptioner,
        name: str,
        images: list[CaptionedImage],
        cache: AnnotationCache | None,
    ) -> list[str]:
        """Caption this process's share, and collect everyone's, in order."""
        mine = list(range(self.processes.rank, len(images), self.processes.world))
        captions: list[tuple[int, str]] = []
        with self.run_log.bar(f"dev {name}", len(mine)) as bar:
            for batch in _chunks(mine):
                features: Features
                if cache is None:
                    pixels = self._read([images[index] for index in batch])
                    features = captioner.encode_pixels(pixels)
                else:
                    features = cache.read(batch).to(self.processes.device)
                texts = caption_texts(captioner, features, self.options)
                captions += zip(batch, texts, strict=True)
                bar.update(len(batch))
        return [text for _, text in self.processes.gather(captions)]

    def _read(self, images: Sequence[CaptionedImage]) -> Tensor:
        return self.reader([image.path for image in images if image.path is not None])


def _chunks(items: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
