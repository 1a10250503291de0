"""The one settings page. Everything comes from the environment; a wrong value refuses to start.

Each variable is documented in docs/reference/settings.md, and a test compares the two.
"""

from pathlib import Path
from urllib.parse import unquote

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured

from console import look

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

HOME = Path(env.str("KILOTOKEN_HOME", default=str(BASE_DIR / "var")))
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
KEY_PEPPER = env.str("KILOTOKEN_KEY_PEPPER", default="")
if not SECRET_KEY or not KEY_PEPPER:
    raise ImproperlyConfigured(
        "SECRET_KEY and KILOTOKEN_KEY_PEPPER must be set. `make run` makes them for you; "
        "elsewhere use `python -m stack exec -- COMMAND` or set both to long random strings."
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://localhost:{env.int('PORT', default=8000)}")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL.startswith("https://") else []

# Behind TLS every cookie is bound to it; a plain http PUBLIC_URL is a machine of one's own.
TLS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS
SECURE_HSTS_SECONDS = 31_536_000 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = TLS
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
if env.bool("TRUST_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "accounts",
    "metering",
    "billing",
    "portal",
    "console",
]

MIDDLEWARE = [
    "config.problems.named",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "console.csp.middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "config.problems.no_nul",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.shell",
            ],
        },
    },
]

DATABASE_URL = env.str("DATABASE_URL", default="")
if not DATABASE_URL:
    raise ImproperlyConfigured(
        "DATABASE_URL must be set, for example postgresql://kilotoken@localhost/kilotoken. "
        "`make run` and `python -m stack exec -- COMMAND` start an embedded PostgreSQL and set it."
    )
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
if "postgresql" not in DATABASES["default"]["ENGINE"]:
    raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL server: postgresql://...")
# A unix socket's folder stands percent-encoded where the host would; the parser leaves it so.
DATABASES["default"]["HOST"] = unquote(str(DATABASES["default"]["HOST"]))
# Ask a pooled connection whether it still lives before a request relies on it: after a restart of
# the server each of them would fail one request, however much later that comes.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["OPTIONS"] = {
    "pool": {"min_size": 0, "max_size": env.int("DATABASE_POOL_SIZE_MAX", default=8)},
    "prepare_threshold": 5,  # of `accounts.prepared`; query sets are never prepared
    # A lost acknowledgement is a lost invoice: no session may turn this off.
    "options": "-c synchronous_commit=on -c timezone=UTC -c statement_timeout=60s "
    "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s "
    # Workers take longer to start than a page's sums take to add up: for long scans only.
    "-c parallel_setup_cost=10000",
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_ADAPTER = "accounts.signing_in.Adapter"
ACCOUNT_EMAIL_NOTIFICATIONS = True
MFA_ADAPTER = "accounts.second_factor.Adapter"
MFA_TOTP_ISSUER = "Kilotoken"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "accounts.signing_in.name_tried"
AXES_LOCKOUT_TEMPLATE = "account/locked_out.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.api_auth.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api_auth.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["metering.asked.StrictJson"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "accounts.api_body.AlwaysJson",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.problems.handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Kilotoken API",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.whole",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="memory://")
# None of these is relied on for correctness: a message is a doorbell, the row is the work.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_SOFT_TIME_LIMIT = 270
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
}
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# What one API key may report, unless its own row says otherwise; 0 is without limit. Each process
# keeps its own count, so each takes its share of it.
INGEST_EVENTS_PER_S = env.int("INGEST_EVENTS_PER_S", default=20_000)
INGEST_BYTES_PER_S = env.int("INGEST_BYTES_PER_S", default=20_000_000)
INGEST_PROCESSES = env.int("INGEST_PROCESSES", default=1)
if min(INGEST_EVENTS_PER_S, INGEST_BYTES_PER_S) < 0 or INGEST_PROCESSES < 1:
    raise ImproperlyConfigured(
        "INGEST_EVENTS_PER_S and INGEST_BYTES_PER_S must be 0 or more, INGEST_PROCESSES 1 or more."
    )

# Different combinations of names (project, model, key, agent ...) of one organization, for good.
INGEST_NAMES_MAX = env.int("INGEST_NAMES_MAX", default=100_000)
if INGEST_NAMES_MAX < 1:
    raise ImproperlyConfigured("INGEST_NAMES_MAX must be 1 or more.")

EMAIL_CONFIG = env.email_url("EMAIL_URL", default=f"filemail:///{HOME / 'mail'}")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("MAIL_FROM", default="Kilotoken <billing@localhost>")

SELLER = {
    "name": env.str("SELLER_NAME", default="Your AI cloud"),
    "address": env.str("SELLER_ADDRESS", default=""),
    "tax_id": env.str("SELLER_TAX_ID", default=""),
}
INVOICE_PREFIX = env.str("INVOICE_PREFIX", default="KT")
CREDIT_NOTE_PREFIX = env.str("CREDIT_NOTE_PREFIX", default=f"{INVOICE_PREFIX}-CN")
DEBIT_NOTE_PREFIX = env.str("DEBIT_NOTE_PREFIX", default=f"{INVOICE_PREFIX}-DN")
if len({INVOICE_PREFIX, CREDIT_NOTE_PREFIX, DEBIT_NOTE_PREFIX}) < 3:
    raise ImproperlyConfigured(
        "INVOICE_PREFIX, CREDIT_NOTE_PREFIX and DEBIT_NOTE_PREFIX must differ: each kind of "
        "document is numbered without gaps."
    )
INVOICE_DUE_DAYS = env.int("INVOICE_DUE_DAYS", default=14)
# A price that rises or falls more than so many times takes a second person to be published.
PRICE_JUMP_FACTOR = env.int("PRICE_JUMP_FACTOR", default=10)
if PRICE_JUMP_FACTOR < 1:
    raise ImproperlyConfigured("PRICE_JUMP_FACTOR must be 1 or more; 1 is a second person always.")
# What a re-rating gives back and charges may come to so many whole units of a currency before it
# takes a second person.
RERATING_ALONE_MAX = env.int("RERATING_ALONE_MAX", default=1_000)
if RERATING_ALONE_MAX < 0:
    raise ImproperlyConfigured("RERATING_ALONE_MAX must be 0 or more; 0 is a second person always.")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = ["console.formats"]
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = HOME / "static"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}
# The console's theme evaluates expressions in the page; its pages, and only they, allow that.
CONSOLE_CSP = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
}
UNFOLD = look.UNFOLD

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "config.logs.Formatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"httpx": {"level": "WARNING"}},  # a line per request is the server's to write
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
}
