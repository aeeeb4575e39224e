"""What a drawn architecture consists of: `drawing.json`. Spaces describe it, the report draws it."""

from typing import Annotated, Any

from pydantic import Field, Strict, model_validator

from vaenas.records import Count, Few, Label, Many, Part


class Operation(Part):
    symbol: Label
    name: Label


class Slot(Part):
    """A coloured block: the operation's index, and the slot's number below it."""

    slot: Count
    operation: Count


class Layer(Part):
    """A grey box."""

    text: Label


class Group(Part):
    """Blocks in a row, and the shape that comes out of them."""

    name: Label
    output: Label
    slots: Many[Slot]


class Cell(Part):
    name: Label
    nodes: Few[Slot | Layer]
    edges: Annotated[Many[Annotated[tuple[Count, Count], Strict(False)]], Field(max_length=400)]

    @model_validator(mode="after")
    def _forward(self) -> "Cell":
        n = len(self.nodes)
        for source, target in self.edges:
            if not source < target < n:
                raise ValueError(f"has an edge from node {source} to {target}; edges lead to a later one of {n}")
        return self


class Drawing(Part):
    """Of an architecture: either `groups` between fixed layers, or `cells`."""

    title: Label
    operations: Few[Operation]
    input: Label = ""  # a shape
    before: Few[Label] = Field(default_factory=list)  # fixed layers
    groups: Few[Group] = Field(default_factory=list)
    after: Few[Label] = Field(default_factory=list)
    cells: Annotated[Many[Cell], Field(max_length=8)] = Field(default_factory=list)

    @property
    def slots(self) -> list[Slot]:
        """All coloured blocks."""
        in_cells = [node for cell in self.cells for node in cell.nodes if isinstance(node, Slot)]
        return [slot for group in self.groups for slot in group.slots] + in_cells

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, content: Any) -> Any:
        if isinstance(content, dict) and ("groups" in content) == ("cells" in content):
            raise ValueError("must have either groups or cells")
        return content

    @model_validator(mode="after")
    def _known(self) -> "Drawing":
        if len(self.slots) > 2000:
            raise ValueError(f"has {len(self.slots)} slots, must have at most 2000")
        most = len(self.operations) - 1
        for slot in self.slots:
            if slot.operation > most:
                raise ValueError(f"slot {slot.slot} has operation {slot.operation}, must be at most {most}")
        return self
