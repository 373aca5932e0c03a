"""conf/ lies at the top of a checkout, and inside the package once it is installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pneumo*"]), "pneumo.conf"],
    package_dir={"pneumo.conf": "conf"},
    package_data={"pneumo.conf": ["**/*.yaml"], "pneumo.display": ["templates/*"]},
)
