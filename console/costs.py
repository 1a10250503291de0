"""The cost side of the price book: models, what upstreams charge, and what imports propose."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.postgres.forms import SimpleArrayField
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import audit
from accounts.models import User
from accounts.refusals import Refusal
from billing import upstream
from billing.feeds import genai, litellm
from billing.models import CatalogModel, CostImport, CostProposal, ModelAlias, ProviderCost
from console.entrance import actor_with, may_with
from console.publishing import APPROVE, PUBLISH, sentences
from console.staff import StaffAdmin, exact, link
from console.steps import StepForm, ask

SOURCES = [
    (genai.SOURCE, "genai-prices, the package that is installed"),
    (litellm.SOURCE, "LiteLLM's model_prices_and_context_window.json, from a file"),
]


FIELDS = (
    "name", "provider", "title", "context_tokens", "modalities", "released_on", "deprecated_on",
    "retired_on", "source",
)  # fmt: skip


class ModelForm(StepForm):
    """A model of the catalogue."""

    also = forms.CharField(
        label="Also called",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="Aliases, one a line. They suggest; they price nothing.",
    )

    modalities = SimpleArrayField(
        forms.CharField(max_length=16),
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="With commas between them: text, image, audio, video.",
    )

    class Meta:
        model = CatalogModel
        fields = FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            names = self.instance.aliases.values_list("name", flat=True)
            self.initial["also"] = "\n".join(names)

    def step(self) -> CatalogModel:
        values = {name: self.cleaned_data[name] for name in FIELDS}
        names = list(dict.fromkeys(self.cleaned_data["also"].split()))
        _refuse_taken([values["name"], *names], self.instance.pk)
        made = self.instance.pk is None
        model = CatalogModel(pk=self.instance.pk, **values)
        model.save(force_insert=made, force_update=not made)
        model.aliases.exclude(name__in=names).delete()
        kept = set(model.aliases.values_list("name", flat=True))
        ModelAlias.objects.bulk_create(
            [ModelAlias(model=model, name=name) for name in names if name not in kept]
        )
        audit.record(
            "model.entered" if made else "model.changed",
            subject=model,
            organization=None,
            actor=self.actor,
            detail={**values, "aliases": names},
        )
        return model


def _refuse_taken(names: list[str], of_model: int | None) -> None:
    """A name leads to one model; the database holds it, this says it at the field."""
    for place, name in enumerate(names):
        others = CatalogModel.objects.filter(~Q(pk=of_model), name=name)
        aliases = ModelAlias.objects.filter(~Q(model=of_model), name=name)
        if others.exists() or aliases.exists() or name in names[:place]:
            raise Refusal("also" if place else "name", f"{name} is another model already.")


@admin.register(CatalogModel)
class CatalogModelAdmin(StaffAdmin):
    """The models sold here, and whom they are bought from."""

    can_add = can_change = True
    form = ModelForm
    list_display = (
        "name", "title", "provider", "context_tokens", "alias_count", "deprecated_on", "retired_on",
    )  # fmt: skip
    list_filter = ("retired_on",)
    search_fields = ("name", "title", "provider", "aliases__name")
    fields = (
        ("name", "provider"), ("title", "context_tokens"), "modalities", "also",
        "released_on", ("deprecated_on", "retired_on"), "source",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(alias_total=Count("aliases"))

    @display(description="Aliases", ordering="alias_total")
    def alias_count(self, model: Any) -> int:
        return int(model.alias_total)


class ImportForm(forms.Form):
    source = forms.ChoiceField(choices=SOURCES, widget=UnfoldAdminSelectWidget)
    file = forms.FileField(
        required=False,
        widget=UnfoldAdminFileFieldWidget,
        help_text="For LiteLLM's map. It stays in your hands: nothing of it is kept but prices.",
    )


@admin.register(CostImport)
class CostImportAdmin(StaffAdmin):
    """What somebody's list said, and what of it was not taken."""

    list_display = (
        "__str__", "source", "imported_at", "imported_by", "priced", "open_count", "fault_count",
    )  # fmt: skip
    list_select_related = ("imported_by",)
    list_filter = ("source",)
    search_fields = ("source", "version", "digest")
    fields = (
        ("source", "version"), "shown_digest", ("imported_at", "imported_by"),
        ("priced", "open_link"),
        "shown_faults",
    )  # fmt: skip
    readonly_fields = ("shown_digest", "open_link", "shown_faults")
    actions_list = ("take_in",)
    actions_detail = ("approve_all",)

    def get_queryset(self, request: HttpRequest) -> Any:
        waiting = Q(proposals__state=CostProposal.State.PROPOSED)
        return super().get_queryset(request).annotate(open=Count("proposals", filter=waiting))

    @display(description="Digest")
    def shown_digest(self, made: CostImport) -> str:
        return format_html('<code class="kt-digest">{}</code>', made.digest)

    @display(description="Waiting", ordering="open")
    def open_count(self, made: Any) -> int:
        return int(made.open)

    @display(description="Not taken")
    def fault_count(self, made: CostImport) -> int:
        return len(made.faults)

    @display(description="Waiting")
    def open_link(self, made: Any) -> str:
        return f"{made.open:,} prices, under Costs proposed"

    @display(description="Not taken")
    def shown_faults(self, made: CostImport) -> str:
        return sentences([f"{fault['pointer']}: {fault['detail']}" for fault in made.faults])

    def has_import_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_with(request, PUBLISH)

    def has_approve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_with(request, APPROVE)

    @action(description="Import a list", permissions=["import"], icon="upload")
    def take_in(self, request: HttpRequest) -> HttpResponse:
        def do(values: dict[str, Any], actor: User, now: datetime) -> str:
            if values["source"] == genai.SOURCE:
                listing = genai.read(now.date())
            else:
                listing = litellm.read(_body(request.FILES.get("file")))
            made = upstream.propose(listing, actor=actor, now=now)
            return f"{made}: {made.proposals.count():,} prices wait for approval."

        return ask(
            request,
            title="Import a list of upstream prices",
            explanation="It proposes what it says otherwise than our costs, and changes nothing.",
            button="Import it",
            back=reverse("admin:billing_costimport_changelist"),
            form_class=ImportForm,
            do=do,
            actor=actor_with(request, PUBLISH),
        )

    @action(description="Approve what does not jump", permissions=["approve"], icon="done_all")
    def approve_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        waiting = CostProposal.objects.filter(
            cost_import_id=int(object_id), state=CostProposal.State.PROPOSED, jump=""
        )

        def do(values: dict[str, Any], actor: User, now: datetime) -> str:
            costs = upstream.approve(_ids(waiting), actor=actor, now=now)
            return f"{len(costs):,} prices hold now."

        return ask(
            request,
            title=f"Approve {waiting.count():,} prices",
            explanation="All that wait of this import, but for those that jump.",
            button="Approve them",
            back=reverse("admin:billing_costimport_change", args=[object_id]),
            do=do,
            actor=actor_with(request, APPROVE),
        )


@admin.register(CostProposal)
class CostProposalAdmin(StaffAdmin):
    """Prices that imports found new or changed, one by one."""

    list_display = (
        "__str__", "shown_before", "shown_price", "elsewhere", "shown_jump", "valid_from",
        "shown_state", "source",
    )  # fmt: skip
    list_select_related = ("cost_import",)
    list_filter = (
        ("state", ChoicesCheckboxFilter), "source", ("cost_import", RelatedDropdownFilter),
    )  # fmt: skip
    search_fields = ("model", "provider")
    fields = (
        ("provider", "model"), ("register", "above"), ("price_before", "price"), "elsewhere",
        "jump", "valid_from", ("source", "cost_import"), "shown_state",
        ("decided_by", "decided_at"),
    )  # fmt: skip
    readonly_fields = ("elsewhere", "shown_state")
    actions = ("approve", "refuse")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Other sources' prices, for the rows of the page in one statement."""
        page = super().get_changelist_instance(request)
        said = upstream.elsewhere(list(page.result_list))
        for proposal in page.result_list:
            proposal.said_elsewhere = said[proposal.pk]
        return page

    @display(description="Other sources say")
    def elsewhere(self, proposal: Any) -> str:
        if not hasattr(proposal, "said_elsewhere"):
            proposal.said_elsewhere = upstream.elsewhere([proposal])[proposal.pk]
        return str(proposal.said_elsewhere) or "-"

    @display(description="Now", ordering="price_before")
    def shown_before(self, proposal: CostProposal) -> str:
        before = proposal.price_before
        return "-" if before is None else exact(before, "USD")

    @display(description="Proposed", ordering="price")
    def shown_price(self, proposal: CostProposal) -> str:
        return exact(proposal.price, "USD")

    @display(description="Jumps", label="danger")
    def shown_jump(self, proposal: CostProposal) -> str:
        return proposal.jump

    @display(
        description="State",
        label={"Proposed": "warning", "Approved": "success", "Refused": "danger"},
    )
    def shown_state(self, proposal: CostProposal) -> str:
        return str(proposal.get_state_display()).capitalize()

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return may_with(request, APPROVE)

    @admin.action(description="Approve the chosen", permissions=["approve"])
    def approve(self, request: HttpRequest, chosen: QuerySet[CostProposal]) -> None:
        self._decide(
            request,
            lambda actor, now: len(upstream.approve(_ids(chosen), actor=actor, now=now)),
            "hold now",
        )

    @admin.action(description="Refuse the chosen", permissions=["approve"])
    def refuse(self, request: HttpRequest, chosen: QuerySet[CostProposal]) -> None:
        self._decide(
            request,
            lambda actor, now: upstream.refuse(_ids(chosen), actor=actor, now=now),
            "are refused",
        )

    def _decide(
        self, request: HttpRequest, step: Callable[[User, datetime], int], done: str
    ) -> None:
        try:
            with transaction.atomic():
                count = step(actor_with(request, APPROVE), timezone.now())
        except upstream.CostRefused as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, f"{count:,} prices {done}.")


@admin.register(ProviderCost)
class ProviderCostAdmin(StaffAdmin):
    """What upstreams charge, from when, and who said so."""

    list_display = ("__str__", "shown_price", "valid_from", "valid_to", "proposal_link")
    list_select_related = ("proposal",)
    list_filter = (("valid_to", admin.EmptyFieldListFilter),)
    search_fields = ("model", "provider")
    fields = (
        ("provider", "model"), ("register", "above"), "shown_price", ("valid_from", "valid_to"),
        ("known_at", "withdrawn_at"), "proposal_link",
    )  # fmt: skip
    readonly_fields = ("shown_price", "proposal_link")

    @display(description="A million tokens", ordering="price")
    def shown_price(self, cost: ProviderCost) -> str:
        return exact(cost.price, "USD")

    @display(description="Approved from")
    def proposal_link(self, cost: ProviderCost) -> str:
        return link(cost.proposal)


def _ids(chosen: QuerySet[CostProposal]) -> list[int]:
    return list(chosen.values_list("pk", flat=True))


def _body(file: UploadedFile[Any] | None) -> bytes:
    if file is None:
        raise Refusal("file", "Choose the file.")
    if (file.size or 0) > litellm.BYTES_MAX:
        raise Refusal("file", f"It must have at most {litellm.BYTES_MAX:,} bytes.")
    body: bytes = file.read()
    return body
