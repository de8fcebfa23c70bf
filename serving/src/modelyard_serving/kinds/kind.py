"""What a task is to the replica."""

from typing import Protocol

from modelyard_serving.contract import ReplicaConfig, Task
from modelyard_serving.models.folder import ModelFiles
from modelyard_serving.service import Loaded
from modelyard_serving.start import Start


class TaskKind(Protocol):
    """A task: which folders it serves and how it loads one; the rest is in what it loads.

    Its module imports neither torch nor transformers before `load`: the catalog imports every kind.
    """

    @property
    def task(self) -> Task:
        """Its name in the contract and in `spec.model.task`."""

    def serves(self, files: ModelFiles) -> bool:
        """Whether the folder's own files say that its model does this task; looks at names and config only.

        Raises:
            StartFailure: the files that would tell are damaged.
        """

    def load(self, files: ModelFiles, config: ReplicaConfig, start: Start) -> Loaded:
        """Check, import, read, warm up; blocks for all of it and tells `start` each of these phases.

        Raises:
            StartFailure: the model cannot be served.
        """
