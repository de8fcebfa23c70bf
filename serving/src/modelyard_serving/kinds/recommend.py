"""Recommend: an exported program that scores items for a user or for items, behind /v1/recommend."""

from typing import TYPE_CHECKING

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.engines.dynamic_batching import DynamicBatchingEngine, Item
from modelyard_serving.engines.grouping import BatchLimits
from modelyard_serving.http.recommend import MAX_ITEMS, RecommendEndpoints
from modelyard_serving.models.catalogue import Catalogue, Wish, read_catalogue
from modelyard_serving.models.folder import ModelFiles, check_program
from modelyard_serving.package.description import Recommendation
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.recommend import Recommender

if TYPE_CHECKING:
    from modelyard_serving.models.recommender import RankedItems

MAX_BATCH = 32
MAX_BATCH_SCORES = 2**25
"""Scores that are computed at once, 128 MiB of them."""


class RecommendKind:
    """Serves packages whose modelyard.yaml names the task."""

    task = Task.RECOMMEND

    def serves(self, files: ModelFiles) -> bool:
        return files.package is not None and files.package.task is self.task

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        with start.phase("check"):
            checked = check_program(files, config.memory_bytes)
            described = checked.package.recommendation
            if described is None:
                raise files.invalid("modelyard.yaml has no recommendation; it names the files with the ids")
        with start.phase("imports"):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from modelyard_serving.models import loading, recommender
            from modelyard_serving.models import program as programs
        with start.phase("load", bytes=checked.load_bytes):
            program = programs.load_program(checked, config)
            [output] = program.signature.outputs
            catalogue = read_catalogue(files, described, int(output.shape[1]))
        [given] = program.signature.inputs
        rows = program.sizes[given.name, 0]
        if rows.least > 1:
            raise files.invalid(f"the program takes {rows.least} requests at once or more; export it for 1 or more")
        history = program.sizes.get((given.name, 1))
        items = len(catalogue.items)
        compute = recommender.RankedItems(program, items=items, least=history.least if history else 1)
        with start.phase("warmup"), loading.failures_told(config.model.uri):
            _try(files, compute, described, catalogue)
        most = min(MAX_BATCH, rows.most or MAX_BATCH, max(1, MAX_BATCH_SCORES // items))
        engine = DynamicBatchingEngine(compute, config=config.engine, limits=BatchLimits(items=most))
        model = BatchedModel(engine, Item(Wish((0,), frozenset(), 1), 1), 0)
        most_items = min(MAX_ITEMS, (history.most if history else None) or MAX_ITEMS)
        task = Recommender(model, catalogue, most_items=most_items)
        facts = {"task": self.task, "items": items, "users": None if catalogue.users is None else len(catalogue.users)}
        return Loaded(model, lambda service: RecommendEndpoints(service, task).routes, facts)


def _try(files: ModelFiles, compute: "RankedItems", described: Recommendation, catalogue: Catalogue) -> None:
    """Score for the first and the last that there are, alone and together."""
    ids, name = (catalogue.items, described.items) if catalogue.users is None else (catalogue.users, described.users)
    last = len(ids) - 1
    try:
        [alone], [other] = compute.scores([(0,)]), compute.scores([(last,)])
    except (IndexError, RuntimeError) as error:
        raise files.invalid(f"the program fails on the last of {len(ids)} ids in {name}: {error}") from error
    if alone.isnan().any() or other.isnan().any():
        raise files.invalid("the model computes no numbers (NaN): the weights are damaged")
    beside, _ = compute.scores([(0,), (0, last) if catalogue.users is None else (last,)])
    if not alone.isclose(beside, rtol=1e-3, atol=1e-4).all():
        raise files.invalid(
            f"the scores of a request change with others beside it: {len(catalogue.items)}, with which short lists of "
            "items are filled up, must count for nothing"
        )
