"""From a model's file to what answers requests."""

import logging
from dataclasses import dataclass

from convlens.server.background import yield_to_the_event_loop
from convlens.server.clients import Clients
from convlens.server.errors import ModelLoadError
from convlens.server.metrics import Metrics
from convlens.server.model import Model, load_model
from convlens.server.model_files import ModelFile
from convlens.server.plan import Gpu, Machine, Plan
from convlens.server.precision import answering_precision
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.served_model import ServedModel
from convlens.server.session_memory import session_bytes
from convlens.server.settings import Settings
from convlens.server.tuned_file import make_planner
from convlens.server.turns import Turns
from convlens.server.uninterruptible import run_uninterruptible

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A file, and how its model will be run.

    Attributes:
        file: as it lies in the folder.
        source: what answers for it: that file, or its twin in fewer bits where tuning chose that.
        plan: by which it is run.
        memory_bytes: what it will take, see `session_bytes`; 0 where that was not asked for.
    """

    file: ModelFile
    source: ModelSource
    plan: Plan
    memory_bytes: int


class Loader:
    """Loads files, and hands each model what all of them share.

    Args:
        settings: of the server.
        provider: what runs the models that were not tuned: a key of `PROVIDERS`.
        metrics: of the server.
    """

    def __init__(self, settings: Settings, provider: str, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        threads = settings.threads or processor_count()
        self._planner = make_planner(
            provider,
            settings.runtime_precision,
            settings.tuned,
            threads,
            settings.max_batch_size,
            any_provider=settings.provider == "auto",
            shared=settings.workers > 1,
        )
        self._machine = Machine(settings.cache_dir, _gpu(settings))
        self._decoders = Turns(threads)
        self._clients = Clients(settings.max_in_flight_per_client)

    async def prepare(self, file: ModelFile, *, estimate: bool) -> Prepared:
        """Decide how a file's model will be run.

        Args:
            file: of the model.
            estimate: whether its memory is asked for.

        Raises:
            ModelLoadError: the file is gone.
        """
        return await run_uninterruptible(self._prepare, file, estimate)

    async def load(self, prepared: Prepared) -> ServedModel:
        """Load a file and prove that it computes what it promises.

        Raises:
            ModelLoadError: it is broken; see `load_model`.
        """
        model = await run_uninterruptible(self._open, prepared)
        logger.info(
            "model %s version %s is ready on %s after %.2f s%s",
            model.name,
            model.version,
            model.plan.described(model.precision),
            model.load_seconds,
            " (random weights)" if model.card.weights_origin == "random" else "",
        )
        return ServedModel(model, self._decoders, self._clients, self._metrics, self._settings)

    def close(self) -> None:
        """End the threads."""
        self._decoders.close()

    def _prepare(self, file: ModelFile, estimate: bool) -> Prepared:
        source = ModelSource.read(file.path)
        try:
            choice = self._planner.choose(source)
            path, plan = choice.source.path, choice.plan
            memory_bytes = session_bytes(path, plan) if estimate else 0
            return Prepared(file, choice.source, plan, memory_bytes)
        except OSError as error:
            raise ModelLoadError(str(error)) from error

    def _open(self, prepared: Prepared) -> Model:
        yield_to_the_event_loop()  # the runtime's own threads are as this one
        file, plan = prepared.file, prepared.plan
        way = plan.described(answering_precision(prepared.source.path, plan))
        logger.info("model %s version %s is being loaded on %s", file.name, file.version, way)
        return load_model(file.name, file.version, prepared.source, plan, self._machine)


def _gpu(settings: Settings) -> Gpu:
    return Gpu(
        device=settings.gpu_device,
        memory_bytes=settings.gpu_memory_bytes,
        tf32=settings.tf32,
        convolution_search=settings.convolution_search,
        graphs=settings.cuda_graphs,
    )
