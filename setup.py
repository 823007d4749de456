"""What pyproject.toml cannot say: the packages found, and grafana's folders of data as parts of sqllogs."""

from setuptools import find_packages, setup

DATA = ("dashboards", "prometheus", "provisioning")

setup(
    packages=[*find_packages(include=["sqllogs*"]), *(f"sqllogs.grafana.{name}" for name in DATA)],
    package_dir={f"sqllogs.grafana.{name}": f"grafana/{name}" for name in DATA},
)
