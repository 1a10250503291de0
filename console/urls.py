"""The console's own pages, before those of Django's admin, under the same address."""

from django.urls import path
from django.views.generic import RedirectView

from console import (
    backfills,
    closing,
    entrance,
    events,
    fates,
    margins,
    pipeline,
    publishing,
    rerating,
    what_if,
)

app_name = "console"
urlpatterns = [
    path("login/", entrance.sign_in, name="login"),
    path(
        "password_change/",
        entrance.staff_only(RedirectView.as_view(pattern_name="account_change_password")),
    ),
    path("events/", events.search, name="events"),
    path("fates/<int:organization_id>/", fates.show, name="fates"),
    path("events/<int:organization_id>/<int:batch_id>-<int:ordinal>/", events.show, name="event"),
    path("backfills/", backfills.index, name="backfills"),
    path("pipeline/", pipeline.pipeline, name="pipeline"),
    path("pipeline/<int:organization_id>/<int:batch_id>/retry/", pipeline.retry, name="retry"),
    path(
        "pipeline/<int:organization_id>/<int:batch_id>/revert/",
        pipeline.retry_revert,
        name="retry-revert",
    ),
    path(
        "pipeline/<int:organization_id>/anew/<int:task_id>/retry/",
        pipeline.retry_reaggregation,
        name="retry-reaggregation",
    ),
    path("tariffs/<int:tariff_id>/publish/", publishing.publish, name="publish"),
    path("subscriptions/<int:subscription_id>/negotiate/", publishing.negotiate, name="negotiate"),
    path("margin/", margins.margins, name="margin"),
    path("unpriced/", margins.without_price, name="unpriced"),
    path("what-if/", what_if.index, name="what_if"),
    path("what-if/<int:run_id>/", what_if.show, name="what_if_run"),
    path("what-if/<int:run_id>/organizations.csv", what_if.download, name="what_if_csv"),
    path("what-if/<int:run_id>/cancel/", what_if.cancel, name="what_if_cancel"),
    path(
        "what-if/<int:run_id>/<int:organization_id>/",
        what_if.organization,
        name="what_if_organization",
    ),
    path("close/", closing.due, name="due"),
    path("close/<int:subscription_id>/", closing.close, name="close"),
    path("close/<int:subscription_id>/now/", closing.close_now, name="close_now"),
    path("re-ratings/", rerating.index, name="reratings"),
    path("re-ratings/start/", rerating.start, name="start_rerating"),
    path("re-ratings/<int:job_id>/", rerating.show, name="rerating"),
    path("re-ratings/<int:job_id>/items/<int:item_id>/", rerating.item, name="rerated"),
    path("re-ratings/<int:job_id>/items.csv", rerating.download, name="rerating_csv"),
    path("re-ratings/<int:job_id>/approve/", rerating.approve, name="approve_rerating"),
    path("re-ratings/<int:job_id>/refuse/", rerating.refuse, name="refuse_rerating"),
    path("re-ratings/<int:job_id>/withdraw/", rerating.withdraw, name="withdraw_rerating"),
]
