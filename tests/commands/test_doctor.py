import argparse
from collections.abc import Iterable

from ortolan.commands.checks.finding import Finding, broken, ok, warning
from ortolan.commands.doctor import add_arguments, arguments_of, looked, text_of
from ortolan.errors import StartupError


def test_each_finding_is_a_line_with_what_to_do_below_it() -> None:
    text = text_of([ok("cores", "2"), warning("open files", "few", "ulimit"), broken("TLS", "no\n key", "give one")])
    assert text == (
        "ok       cores       2\n"
        "warning  open files  few\n"
        "                     → ulimit\n"
        "broken   TLS         no key\n"
        "                     → give one\n"
        "\n"
        "1 broken, 1 warnings"
    )


def test_a_check_that_fails_is_a_finding() -> None:
    def the_weather() -> Iterable[Finding]:
        raise ZeroDivisionError("nothing to divide by")

    (finding,) = looked(the_weather)
    assert finding.subject == "the weather"
    assert finding.text == "cannot be looked at: ZeroDivisionError: nothing to divide by"


def test_a_wrong_setting_is_a_finding() -> None:
    def settings() -> Iterable[Finding]:
        raise StartupError("--http-port: no port")

    assert looked(settings) == [broken("settings", "--http-port: no port", "correct that setting, or leave it out")]


def test_the_servers_own_flags_are_handed_on() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parsed = parser.parse_args(["/models", "--load-model=a", "--load-model", "b", "--allow-grpc", "--http-port=0"])
    given = {
        name: value for name, value in vars(parsed).items() if name not in ("paths", "json", "models_timeout_secs")
    }
    assert sorted(arguments_of(given)) == ["--allow-grpc=true", "--http-port=0", "--load-model=a", "--load-model=b"]
