"""The site: ``make docs`` builds it, every warning is an error. Commands and API pages are written from the code."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from reference_pages import write_reference  # noqa: E402

from protuning_mm.version import __version__  # noqa: E402

project = 'protuning_mm'
author = 'The protuning_mm authors'
release = version = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
exclude_patterns = ['figures', 'evidence']
html_theme = 'furo'
html_title = f'protuning_mm {release}'
html_static_path = ['static']
html_css_files = ['site.css']
html_show_sphinx = False

myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 3
suppress_warnings = ['misc.highlighting_failure']  # console blocks show programs' output
copybutton_prompt_text = '$ '

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings name the types, as mmengine's do
napoleon_custom_sections = ['Shape']
napoleon_numpy_docstring = False

# pages of the site that are files of the repository's root
INCLUDED = {'contributing': 'CONTRIBUTING.md', 'changelog': 'CHANGELOG.md'}
# other files of the root, which pages link to; the README's part is the site's first page
ON_THE_SITE = {'README.md': 'index.md', **{file: f'{page}.md' for page, file in INCLUDED.items()}}
LINK = re.compile(r'(?<!!)\[([^\]]*)\]\(((?:\.\./|evidence/)[\w./-]+)(#[\w-]+)?\)')


def adapt_links(app: Sphinx, name: str, source: list[str]) -> None:
    """Let the links that are right in the repository be right on the site: files outside of it are downloads."""

    def adapt(found: re.Match[str]) -> str:
        text, target, _ = found.groups()
        page = ON_THE_SITE.get(target.removeprefix('../'))
        if page:
            return f'[{text}]({page})'
        if (HERE / target).is_dir():
            return text
        return f'[{text}](path:{target})' if target.endswith('.md') else found[0]

    if name in INCLUDED:
        text = (HERE.parent / INCLUDED[name]).read_text()
        source[0] = re.sub(r'\]\((?!https?:)(docs/)?', lambda link: '](' if link[1] else '](../', text)
    source[0] = LINK.sub(adapt, source[0])


def setup(app: Sphinx) -> None:
    """Write the generated pages, and adapt links when a page is read."""
    write_reference(HERE / 'reference')
    app.connect('source-read', adapt_links)
