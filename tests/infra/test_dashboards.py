import json

import pytest

from infra.dashboards import DASHBOARDS, FOLDER, Dashboard, rendered


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_a_committed_dashboard_is_what_the_generator_gives(dashboard: Dashboard) -> None:
    committed = (FOLDER / f"{dashboard.name}.json").read_text()
    assert committed == rendered(dashboard), "run `python -m infra.dashboards`"


def test_no_other_dashboard_is_committed() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {found.name for found in DASHBOARDS}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_panels_have_places_that_do_not_overlap(dashboard: Dashboard) -> None:
    panels = json.loads(rendered(dashboard))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
