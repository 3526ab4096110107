from ortolan.hosting.announcement import announcement
from ortolan.hosting.contract import Hosting
from ortolan.settings import flag_of

HOSTING = Hosting("Knative", {"http_port": "9", "grpc_port": "9"}, "/models")


def test_the_settings_that_come_of_a_platform_are_told() -> None:
    said = announcement(HOSTING, flag_of, ())
    assert said.startswith("On Knative, by its environment: --http-port=9, --grpc-port=9, models from /models  (")


def test_what_people_said_is_not() -> None:
    assert announcement(HOSTING, flag_of, {"grpc_port", "model_repository"}).startswith(
        "On Knative, by its environment: --http-port=9  ("
    )
    assert "nothing that was not said already" in announcement(Hosting("Knative"), flag_of, ())


def test_a_place_of_the_images_is_no_platforms() -> None:
    assert announcement(Hosting("", model_path="/models"), flag_of, ()) == (
        "Nothing says what to serve: models from /models"
    )
